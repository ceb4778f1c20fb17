# What a fleet on Amazon EC2 asks for, planned against the provider's schema alone.

mock_provider "aws" {
  override_during = plan
  mock_resource "aws_eip" {
    defaults = { public_ip = "203.0.113.10", id = "eipalloc-1" }
  }
  mock_resource "aws_ebs_volume" {
    defaults = { id = "vol-0123456789abcdef0", arn = "arn:aws:ec2:us-east-1:123456789012:volume/vol-0123456789abcdef0" }
  }
}

variables {
  region               = "us-east-1"
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
    condition     = output.login_address == "203.0.113.10" && output.ssh_commands == { jump-1 = "ssh ops@203.0.113.10" }
    error_message = "People and admins connect to the host itself."
  }
  assert {
    condition = (yamldecode(output.host_manifests["jump-1"]).spec.storage.disk
    == "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0")
    error_message = "The data volume is named so that no other disk can be taken for it."
  }
}

run "three_hosts_with_names" {
  command = plan
  variables {
    jump_server_count = 3
    dns_zone_id       = "Z1"
    dns_domain        = "jump.example.org"
  }
  assert {
    condition     = length(module.host) == 3 && length(module.balancer) == 1 && output.load_balancer_ip == "203.0.113.10"
    error_message = "Three hosts stand behind one address."
  }
  assert {
    condition     = aws_route53_record.login[0].records == toset(["203.0.113.10"]) && length(aws_route53_record.host) == 3
    error_message = "The name is that of the balancer, and each host has its own."
  }
  assert {
    condition     = aws_dlm_lifecycle_policy.snapshots[0].policy_details[0].target_tags == tomap({ containarium-data = "jump" })
    error_message = "The snapshots' policy finds the data volumes, and nothing else."
  }
}

run "nobody_is_let_in_by_default" {
  command = plan
  variables {
    allowed_ssh_sources = []
  }
  expect_failures = [var.allowed_ssh_sources]
}
