# A fleet of 1 to 10 hosts on Google Compute Engine. What there is to decide is decided in modules/plan.

locals {
  zone    = coalesce(var.zone, "${var.region}-a")
  labels  = merge({ containarium = var.instance_name }, var.labels)
  disk    = "/dev/disk/by-id/google-data" # made by Google's own udev rules of the device name in gce/host
  address = module.plan.balanced ? module.network.balancer_address : module.network.addresses[keys(module.plan.hosts)[0]].external
  single  = var.jump_server_count == 1 || module.plan.balanced
}

module "plan" {
  source               = "../../modules/plan"
  cloud                = "gce"
  instance_name        = var.instance_name
  jump_server_count    = var.jump_server_count
  enable_load_balancer = var.enable_load_balancer
  private_cidr         = var.private_cidr
  bridges              = var.bridges
  # Several hosts without balancer and name have no one address.
  login_address        = var.dns_domain != "" ? var.dns_domain : local.single ? local.address : ""
  admin_ssh_keys       = var.admin_ssh_keys
  storage_driver       = var.storage_driver
  disks                = { for name in keys(module.plan.hosts) : name => local.disk }
  incus_repository     = var.incus_repository
  containarium_package = var.containarium_package
  sync                 = var.sync
  sync_known_hosts     = var.sync_known_hosts
  sync_allowed_signers = var.sync_allowed_signers
  deploy_key_secret    = var.deploy_key_secret == "" ? "" : "projects/${var.project_id}/secrets/${var.deploy_key_secret}/versions/latest"
  people_per_host      = var.people_per_host
  machine_type         = var.machine_type
  use_spot_instance    = var.use_spot_instance
  boot_disk            = var.boot_disk
  data_disk            = var.data_disk
  snapshots            = var.enable_disk_snapshots
  prices               = var.prices
}

module "network" {
  source              = "../network"
  instance_name       = var.instance_name
  region              = var.region
  private_cidr        = var.private_cidr
  hosts               = module.plan.hosts
  balanced            = module.plan.balanced
  service_account     = google_service_account.hosts.email
  allowed_ssh_sources = var.allowed_ssh_sources
  allowed_api_sources = var.allowed_api_sources
}

module "host" {
  source            = "../host"
  for_each          = module.plan.hosts
  name              = each.key
  zone              = local.zone
  machine_type      = var.machine_type
  os_image          = var.os_image
  boot_disk         = var.boot_disk
  data_disk         = var.data_disk
  use_spot_instance = var.use_spot_instance
  startup_script    = module.plan.startup_scripts[each.key]
  subnetwork        = module.network.subnetwork
  addresses         = module.network.addresses[each.key]
  service_account   = google_service_account.hosts.email
  health_check      = google_compute_health_check.ssh.id
  enable_snapshots  = var.enable_disk_snapshots
  snapshot_policy   = one(google_compute_resource_policy.snapshots[*].name)
  labels            = local.labels

  # A machine asks for its deploy key as soon as it boots.
  depends_on = [google_secret_manager_secret_iam_member.deploy_key]
}

module "balancer" {
  source        = "../balancer"
  count         = module.plan.balanced ? 1 : 0
  instance_name = var.instance_name
  region        = var.region
  address       = module.network.balancer_address
  groups        = { for name, host in module.host : name => host.group }
}

# -- who the hosts are to Google: they may write logs and figures, and read one secret

resource "google_service_account" "hosts" {
  account_id   = "${substr(var.instance_name, 0, 24)}-hosts"
  display_name = "Hosts of Containarium (${var.instance_name})"
}

resource "google_project_iam_member" "hosts" {
  for_each = toset(["roles/logging.logWriter", "roles/monitoring.metricWriter"])
  project  = var.project_id
  role     = each.value
  member   = "serviceAccount:${google_service_account.hosts.email}"
}

resource "google_secret_manager_secret_iam_member" "deploy_key" {
  count     = var.deploy_key_secret == "" ? 0 : 1
  project   = var.project_id
  secret_id = var.deploy_key_secret
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.hosts.email}"
}

# -- what brings a host back

# Slow on purpose: a host that is made anew costs its people minutes, one that was busy comes to itself.
resource "google_compute_health_check" "ssh" {
  name                = "${var.instance_name}-recovery"
  check_interval_sec  = 30
  timeout_sec         = 10
  healthy_threshold   = 1
  unhealthy_threshold = 10
  tcp_health_check {
    port = 22
  }
}

resource "google_compute_resource_policy" "snapshots" {
  count  = var.enable_disk_snapshots ? 1 : 0
  name   = "${var.instance_name}-daily"
  region = var.region
  snapshot_schedule_policy {
    schedule {
      daily_schedule {
        days_in_cycle = 1
        start_time    = "03:00"
      }
    }
    retention_policy {
      max_retention_days    = var.snapshot_retention_days
      on_source_disk_delete = "KEEP_AUTO_SNAPSHOTS"
    }
    snapshot_properties {
      labels            = local.labels
      storage_locations = [var.region]
      guest_flush       = false
    }
  }
}

# -- names

resource "google_dns_record_set" "login" {
  count        = var.dns_zone_name == "" ? 0 : 1
  managed_zone = var.dns_zone_name
  name         = "${var.dns_domain}."
  type         = "A"
  ttl          = 300
  rrdatas      = local.single ? [local.address] : [for each in values(module.network.addresses) : each.external]
}

resource "google_dns_record_set" "host" {
  for_each     = var.dns_zone_name == "" ? {} : module.plan.hosts
  managed_zone = var.dns_zone_name
  name         = "${each.key}.${var.dns_domain}."
  type         = "A"
  ttl          = 300
  rrdatas      = [module.network.addresses[each.key].external]
}
