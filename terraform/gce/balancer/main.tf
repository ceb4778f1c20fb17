# One address for all hosts. It passes connections on as they are, so that hosts see (and fail2ban bans) the real client.

resource "google_compute_region_health_check" "ssh" {
  name                = "${var.instance_name}-balancer"
  region              = var.region
  check_interval_sec  = 5
  timeout_sec         = 5
  healthy_threshold   = 2
  unhealthy_threshold = 2
  tcp_health_check {
    port = 22
  }
}

resource "google_compute_region_backend_service" "ssh" {
  name                  = "${var.instance_name}-ssh"
  region                = var.region
  protocol              = "TCP"
  load_balancing_scheme = "EXTERNAL"
  session_affinity      = "NONE"
  health_checks         = [google_compute_region_health_check.ssh.id]
  # A host leaves when its machine goes, and its logins go with it: nobody has to wait for their end.
  connection_draining_timeout_sec = 30

  dynamic "backend" {
    for_each = var.groups
    content {
      group          = backend.value
      balancing_mode = "CONNECTION"
    }
  }
}

resource "google_compute_forwarding_rule" "ssh" {
  name                  = "${var.instance_name}-ssh"
  region                = var.region
  load_balancing_scheme = "EXTERNAL"
  ip_protocol           = "TCP"
  ports                 = ["22"]
  ip_address            = var.address
  backend_service       = google_compute_region_backend_service.ssh.id
}
