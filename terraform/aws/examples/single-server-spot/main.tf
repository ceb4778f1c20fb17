# One spot host for 50 people, which returns by itself after an interruption.

module "fleet" {
  source               = "../../fleet"
  region               = var.region
  jump_server_count    = 1
  use_spot_instance    = true
  machine_type         = "m6i.2xlarge"
  data_disk            = { type = "gp3", size_gb = 500 }
  people_per_host      = 50
  allowed_ssh_sources  = var.allowed_ssh_sources
  admin_ssh_keys       = var.admin_ssh_keys
  containarium_package = var.containarium_package
  sync                 = var.sync
  sync_known_hosts     = var.sync_known_hosts
  deploy_key_secret    = var.deploy_key_secret
  dns_zone_id          = var.dns_zone_id
  dns_domain           = var.dns_domain
  prices               = var.prices
}
