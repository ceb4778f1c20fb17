# Five hosts behind one address for 250 people.

module "fleet" {
  source               = "../../fleet"
  project_id           = var.project_id
  region               = var.region
  jump_server_count    = 5
  use_spot_instance    = false
  machine_type         = "n2-standard-8"
  data_disk            = { type = "pd-balanced", size_gb = 500 }
  people_per_host      = 50
  allowed_ssh_sources  = var.allowed_ssh_sources
  admin_ssh_keys       = var.admin_ssh_keys
  containarium_package = var.containarium_package
  sync                 = var.sync
  sync_known_hosts     = var.sync_known_hosts
  deploy_key_secret    = var.deploy_key_secret
  dns_zone_name        = var.dns_zone_name
  dns_domain           = var.dns_domain
  prices               = var.prices
}
