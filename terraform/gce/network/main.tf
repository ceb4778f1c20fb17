# The private network: addresses that stay, a route to each host's boxes, and who may connect to what.

locals {
  # Where Google's health checks come from: of managed instance groups, and of its network balancers.
  health_checks = ["35.191.0.0/16", "130.211.0.0/22", "209.85.152.0/22", "209.85.204.0/22"]
}

resource "google_compute_network" "this" {
  name                            = var.instance_name
  auto_create_subnetworks         = false
  routing_mode                    = "REGIONAL"
  delete_default_routes_on_create = false
}

resource "google_compute_subnetwork" "this" {
  name                     = var.instance_name
  region                   = var.region
  network                  = google_compute_network.this.id
  ip_cidr_range            = var.private_cidr
  private_ip_google_access = true
  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "EXCLUDE_ALL_METADATA"
  }
}

resource "google_compute_address" "private" {
  for_each     = var.hosts
  name         = "${each.key}-private"
  region       = var.region
  address_type = "INTERNAL"
  subnetwork   = google_compute_subnetwork.this.id
  address      = each.value.private_address
}

resource "google_compute_address" "external" {
  for_each = var.hosts
  name     = "${each.key}-external"
  region   = var.region
}

resource "google_compute_address" "balancer" {
  count  = var.balanced ? 1 : 0
  name   = "${var.instance_name}-balancer"
  region = var.region
}

# By address and not by machine: a machine that was made anew is reached at once.
resource "google_compute_route" "bridge" {
  for_each    = length(var.hosts) > 1 ? var.hosts : {}
  name        = "${each.key}-bridge"
  network     = google_compute_network.this.id
  dest_range  = each.value.bridge_cidr
  next_hop_ip = google_compute_address.private[each.key].address
  priority    = 1000
}

resource "google_compute_firewall" "ssh" {
  name                    = "${var.instance_name}-ssh"
  network                 = google_compute_network.this.id
  direction               = "INGRESS"
  source_ranges           = var.allowed_ssh_sources
  target_service_accounts = [var.service_account]
  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}

resource "google_compute_firewall" "api" {
  count                   = length(var.allowed_api_sources) > 0 ? 1 : 0
  name                    = "${var.instance_name}-api"
  network                 = google_compute_network.this.id
  direction               = "INGRESS"
  source_ranges           = var.allowed_api_sources
  target_service_accounts = [var.service_account]
  allow {
    protocol = "tcp"
    ports    = ["50051"]
  }
}

resource "google_compute_firewall" "health" {
  name                    = "${var.instance_name}-health"
  network                 = google_compute_network.this.id
  direction               = "INGRESS"
  source_ranges           = local.health_checks
  target_service_accounts = [var.service_account]
  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}

# Hosts ask each other over ssh, and one fetches an environment from another's Incus.
resource "google_compute_firewall" "peers" {
  count                   = length(var.hosts) > 1 ? 1 : 0
  name                    = "${var.instance_name}-peers"
  network                 = google_compute_network.this.id
  direction               = "INGRESS"
  source_service_accounts = [var.service_account]
  target_service_accounts = [var.service_account]
  destination_ranges      = [var.private_cidr]
  allow {
    protocol = "tcp"
    ports    = ["22", "8443"]
  }
}

# A login at one host goes on to a box of another.
resource "google_compute_firewall" "boxes" {
  count                   = length(var.hosts) > 1 ? 1 : 0
  name                    = "${var.instance_name}-boxes"
  network                 = google_compute_network.this.id
  direction               = "INGRESS"
  source_service_accounts = [var.service_account]
  target_service_accounts = [var.service_account]
  destination_ranges      = [for host in values(var.hosts) : host.bridge_cidr]
  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}
