# What a fleet on Google Compute Engine asks for, planned against the provider's schema alone.

mock_provider "google" {
  override_during = plan
  mock_resource "google_compute_address" {
    defaults = { address = "203.0.113.10", self_link = "https://compute.example/addresses/a" }
  }
  mock_resource "google_service_account" {
    defaults = { email = "jump-hosts@project.example" }
  }
}

variables {
  project_id           = "project"
  allowed_ssh_sources  = ["198.51.100.0/24"]
  admin_ssh_keys       = { ops = ["ssh-ed25519 AAAA ops@laptop"] }
  containarium_package = "containarium==0.1.0"
  sync                 = { repository = "https://git.example.org/team/environments.git" }
}

run "one_spot_host" {
  command = plan
  variables {
    use_spot_instance = true
  }
  assert {
    condition     = length(module.host) == 1 && length(module.balancer) == 0 && output.load_balancer_ip == null
    error_message = "One host needs no balancer."
  }
  assert {
    condition     = output.login_address == output.ips["jump-1"] && output.ssh_commands == { jump-1 = "ssh ops@203.0.113.10" }
    error_message = "People and admins connect to the host itself."
  }
  assert {
    condition     = output.api_endpoints == { jump-1 = "203.0.113.10:50051" }
    error_message = "The API's endpoint is port 50051 of the host."
  }
  assert {
    condition     = length(google_secret_manager_secret_iam_member.deploy_key) == 0 && length(google_dns_record_set.login) == 0
    error_message = "Nobody asked for a secret or a name."
  }
}

run "three_hosts_with_names_and_a_secret" {
  command = plan
  variables {
    jump_server_count = 3
    dns_zone_name     = "example"
    dns_domain        = "jump.example.org"
    deploy_key_secret = "deploy"
    sync              = { repository = "git@git.example.org:team/environments.git" }
    sync_known_hosts  = "git.example.org ssh-ed25519 AAAA"
  }
  assert {
    condition     = length(module.host) == 3 && length(module.balancer) == 1 && output.load_balancer_ip == "203.0.113.10"
    error_message = "Three hosts stand behind one address."
  }
  assert {
    condition = alltrue([
      for manifest in values(output.host_manifests) : yamldecode(manifest).spec.login.address == "jump.example.org"
    ])
    error_message = "People connect to the name."
  }
  assert {
    condition     = google_dns_record_set.login[0].rrdatas == tolist(["203.0.113.10"]) && length(google_dns_record_set.host) == 3
    error_message = "The name is that of the balancer, and each host has its own."
  }
  assert {
    condition     = google_secret_manager_secret_iam_member.deploy_key[0].secret_id == "deploy"
    error_message = "Hosts may read this secret, and no other."
  }
  assert {
    condition     = toset(keys(google_project_iam_member.hosts)) == toset(["roles/logging.logWriter", "roles/monitoring.metricWriter"])
    error_message = "Hosts may write logs and figures, and nothing else."
  }
}

run "the_snapshots_can_be_left_out" {
  command = plan
  variables {
    enable_disk_snapshots = false
  }
  assert {
    condition     = length(google_compute_resource_policy.snapshots) == 0
    error_message = "There should be no policy."
  }
}

run "nobody_is_let_in_by_default" {
  command = plan
  variables {
    allowed_ssh_sources = []
  }
  expect_failures = [var.allowed_ssh_sources]
}

run "a_name_needs_a_zone" {
  command = plan
  variables {
    dns_domain = "jump.example.org"
  }
  expect_failures = [var.dns_domain]
}
