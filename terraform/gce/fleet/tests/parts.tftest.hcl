# What the parts of a fleet ask for: the network's doors and routes, and the machine that comes back by itself.

mock_provider "google" {
  override_during = plan
}

run "network" {
  command = plan
  module {
    source = "../network"
  }
  variables {
    instance_name = "jump"
    region        = "us-central1"
    private_cidr  = "10.128.0.0/24"
    hosts = {
      jump-1 = { private_address = "10.128.0.10", bridge_cidr = "10.0.3.0/24" }
      jump-2 = { private_address = "10.128.0.11", bridge_cidr = "10.0.4.0/24" }
    }
    balanced            = true
    service_account     = "hosts@project.example"
    allowed_ssh_sources = ["198.51.100.0/24"]
  }
  assert {
    condition     = { for name, route in google_compute_route.bridge : name => route.dest_range } == { jump-1 = "10.0.3.0/24", jump-2 = "10.0.4.0/24" }
    error_message = "Each host's boxes are behind a route."
  }
  assert {
    condition     = { for name, each in google_compute_address.private : name => each.address } == { jump-1 = "10.128.0.10", jump-2 = "10.128.0.11" }
    error_message = "Private addresses are those that were decided."
  }
  assert {
    condition     = toset(google_compute_firewall.ssh.source_ranges) == toset(["198.51.100.0/24"]) && length(google_compute_firewall.api) == 0
    error_message = "Only the allowed sources come in, and nobody reaches the API."
  }
  assert {
    condition = (toset(google_compute_firewall.boxes[0].destination_ranges) == toset(["10.0.3.0/24", "10.0.4.0/24"])
    && [for each in google_compute_firewall.boxes[0].allow : each.ports] == [tolist(["22"])])
    error_message = "A host reaches port 22 of another's boxes, and no other port."
  }
  assert {
    condition = ([for each in google_compute_firewall.peers[0].allow : each.ports] == [tolist(["22", "8443"])]
    && toset(google_compute_firewall.peers[0].source_service_accounts) == toset(["hosts@project.example"]))
    error_message = "Only hosts reach each other's ssh and Incus."
  }
  assert {
    condition     = length(google_compute_address.external) == 2 && length(google_compute_address.balancer) == 1
    error_message = "There are external addresses of the hosts and the balancer, and no other."
  }
}

run "one_host_has_no_peers" {
  command = plan
  module {
    source = "../network"
  }
  variables {
    instance_name       = "jump"
    region              = "us-central1"
    private_cidr        = "10.128.0.0/24"
    hosts               = { jump-1 = { private_address = "10.128.0.10", bridge_cidr = "10.0.3.0/24" } }
    balanced            = false
    service_account     = "hosts@project.example"
    allowed_ssh_sources = ["198.51.100.0/24"]
    allowed_api_sources = ["192.0.2.0/24"]
  }
  assert {
    condition     = length(google_compute_route.bridge) + length(google_compute_firewall.peers) + length(google_compute_firewall.boxes) == 0
    error_message = "There is nobody to route to."
  }
  assert {
    condition     = toset(google_compute_firewall.api[0].source_ranges) == toset(["192.0.2.0/24"])
    error_message = "The API is open to whom it is opened to."
  }
}

variables {
  name              = "jump-1"
  zone              = "us-central1-a"
  machine_type      = "n2-standard-8"
  os_image          = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
  boot_disk         = { type = "pd-balanced", size_gb = 30 }
  data_disk         = { type = "pd-balanced", size_gb = 500 }
  use_spot_instance = true
  startup_script    = "#!/bin/bash\n"
  subnetwork        = "subnetwork"
  addresses         = { private_id = "private", external_id = "external" }
  service_account   = "hosts@project.example"
  health_check      = "check"
  snapshot_policy   = "jump-daily"
  enable_snapshots  = true
  labels            = { containarium = "jump" }
}

run "spot_host" {
  command = plan
  module {
    source = "../host"
  }
  assert {
    condition = (google_compute_instance_template.this.scheduling[0].provisioning_model == "SPOT"
      && google_compute_instance_template.this.scheduling[0].instance_termination_action == "STOP"
    && google_compute_instance_template.this.scheduling[0].automatic_restart == false)
    error_message = "It is a spot machine that its group starts again."
  }
  assert {
    condition     = google_compute_instance_template.this.can_ip_forward
    error_message = "It has to pass on what is for its boxes."
  }
  assert {
    condition     = google_compute_instance_template.this.metadata["startup-script"] == "#!/bin/bash\n" && google_compute_instance_template.this.metadata["block-project-ssh-keys"] == "true"
    error_message = "It runs the script, and takes no accounts from the project."
  }
  assert {
    condition = (google_compute_per_instance_config.this.name == "jump-1"
      && [for disk in google_compute_per_instance_config.this.preserved_state[0].disk : [disk.device_name, disk.delete_rule]] == [["data", "NEVER"]]
      && [for ip in google_compute_per_instance_config.this.preserved_state[0].internal_ip : ip.ip_address[0].address] == ["private"]
    && [for ip in google_compute_per_instance_config.this.preserved_state[0].external_ip : ip.ip_address[0].address] == ["external"])
    error_message = "Name, data disk and both addresses stay when it is made anew."
  }
  assert {
    condition     = google_compute_instance_group_manager.this.update_policy[0].type == "OPPORTUNISTIC"
    error_message = "A new template must not restart anybody by itself."
  }
  assert {
    condition     = [for each in google_compute_instance_group_manager.this.instance_lifecycle_policy : each.force_update_on_repair] == ["YES"]
    error_message = "A recovery takes the newest template."
  }
  assert {
    condition     = google_compute_disk_resource_policy_attachment.snapshots[0].name == "jump-daily" && google_compute_disk_resource_policy_attachment.snapshots[0].disk == "jump-1-data"
    error_message = "The snapshots' policy is attached to the data disk."
  }
}

run "regular_host_without_snapshots" {
  command = plan
  module {
    source = "../host"
  }
  variables {
    use_spot_instance = false
    enable_snapshots  = false
    snapshot_policy   = ""
  }
  assert {
    condition = (google_compute_instance_template.this.scheduling[0].provisioning_model == "STANDARD"
    && google_compute_instance_template.this.scheduling[0].automatic_restart)
    error_message = "It is a regular machine."
  }
  assert {
    condition     = length(google_compute_disk_resource_policy_attachment.snapshots) == 0
    error_message = "There are no snapshots."
  }
}

run "balancer" {
  command = plan
  module {
    source = "../balancer"
  }
  variables {
    instance_name = "jump"
    region        = "us-central1"
    address       = "203.0.113.10"
    groups        = { jump-1 = "group-1", jump-2 = "group-2" }
  }
  assert {
    condition     = toset([for each in google_compute_region_backend_service.ssh.backend : each.group]) == toset(["group-1", "group-2"])
    error_message = "All hosts are behind it."
  }
  assert {
    condition     = google_compute_region_backend_service.ssh.connection_draining_timeout_sec == 30
    error_message = "It does not hold up a host that is replaced."
  }
  assert {
    condition     = google_compute_forwarding_rule.ssh.ports == toset(["22"])
    error_message = "It passes on port 22 and no other."
  }
}
