# One host: a machine that its group makes again whenever it is gone, under the same name, with the same addresses and
# the same data disk.

locals {
  device = "data"
}

resource "google_compute_disk" "data" {
  # checkov:skip=CKV_GCP_37:Google encrypts every disk; a key of the customer's own would have to be at hand at each recovery
  name   = "${var.name}-data"
  zone   = var.zone
  type   = var.data_disk.type
  size   = var.data_disk.size_gb
  labels = var.labels
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_compute_disk_resource_policy_attachment" "snapshots" {
  count = var.enable_snapshots ? 1 : 0
  name  = var.snapshot_policy
  disk  = google_compute_disk.data.name
  zone  = var.zone
}

resource "google_compute_instance_template" "this" {
  # checkov:skip=CKV_GCP_40:a host is where people connect to; its firewall rules name from where
  # checkov:skip=CKV_GCP_36:hosts pass on what is for their boxes
  name_prefix    = "${var.name}-"
  machine_type   = var.machine_type
  can_ip_forward = true
  labels         = var.labels

  disk {
    boot         = true
    auto_delete  = true
    source_image = var.os_image
    disk_type    = var.boot_disk.type
    disk_size_gb = var.boot_disk.size_gb
    labels       = var.labels
  }

  network_interface {
    subnetwork = var.subnetwork
    # The reserved address comes with the machine's own configuration, below.
    access_config {
      network_tier = "PREMIUM"
    }
  }

  service_account {
    email = var.service_account
    # What the account may do is said by its roles.
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
  }

  scheduling {
    provisioning_model          = var.use_spot_instance ? "SPOT" : "STANDARD"
    preemptible                 = var.use_spot_instance
    automatic_restart           = !var.use_spot_instance
    on_host_maintenance         = var.use_spot_instance ? "TERMINATE" : "MIGRATE"
    instance_termination_action = var.use_spot_instance ? "STOP" : null
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  metadata = {
    startup-script         = var.startup_script
    block-project-ssh-keys = "true" # accounts come from the Host manifest, and from nowhere else
    enable-oslogin         = "FALSE"
    serial-port-enable     = "FALSE"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_instance_group_manager" "this" {
  name               = var.name
  zone               = var.zone
  base_instance_name = var.name
  # Its only member is made by the configuration below, which names it; it counts as one then.
  target_size = 0

  version {
    instance_template = google_compute_instance_template.this.self_link_unique
  }

  named_port {
    name = "ssh"
    port = 22
  }

  auto_healing_policies {
    health_check      = var.health_check
    initial_delay_sec = 900
  }

  # A new template does not restart anybody: it is taken at the next recovery, or when an admin asks for it.
  update_policy {
    type                  = "OPPORTUNISTIC"
    minimal_action        = "REPLACE"
    replacement_method    = "RECREATE"
    max_surge_fixed       = 0
    max_unavailable_fixed = 1
  }

  # Else a recovery would make the machine as it was first made.
  instance_lifecycle_policy {
    force_update_on_repair = "YES"
  }

  lifecycle {
    ignore_changes = [target_size]
  }
}

resource "google_compute_per_instance_config" "this" {
  name                             = var.name
  zone                             = var.zone
  instance_group_manager           = google_compute_instance_group_manager.this.name
  minimal_action                   = "NONE"
  most_disruptive_allowed_action   = "REPLACE"
  remove_instance_on_destroy       = true
  remove_instance_state_on_destroy = false

  preserved_state {
    disk {
      device_name = local.device
      source      = google_compute_disk.data.id
      mode        = "READ_WRITE"
      delete_rule = "NEVER"
    }
    internal_ip {
      interface_name = "nic0"
      auto_delete    = "NEVER"
      ip_address {
        address = var.addresses.private_id
      }
    }
    external_ip {
      interface_name = "nic0"
      auto_delete    = "NEVER"
      ip_address {
        address = var.addresses.external_id
      }
    }
  }
}
