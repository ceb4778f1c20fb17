# What the parts of a fleet ask for: the network's doors and routes, and the machine that comes back by itself.

mock_provider "aws" {
  override_during = plan
  mock_resource "aws_network_interface" {
    defaults = { id = "eni-1" }
  }
  mock_resource "aws_security_group" {
    defaults = { id = "sg-1" }
  }
}

run "network" {
  command = plan
  module {
    source = "../network"
  }
  variables {
    instance_name = "jump"
    zone          = "us-east-1a"
    private_cidr  = "10.128.0.0/24"
    hosts = {
      jump-1 = { private_address = "10.128.0.10", bridge_cidr = "10.0.3.0/24" }
      jump-2 = { private_address = "10.128.0.11", bridge_cidr = "10.0.4.0/24" }
    }
    balanced            = true
    allowed_ssh_sources = ["198.51.100.0/24"]
  }
  assert {
    condition = ({ for name, route in aws_route.bridge : name => [route.destination_cidr_block, route.network_interface_id] }
    == { jump-1 = ["10.0.3.0/24", "eni-1"], jump-2 = ["10.0.4.0/24", "eni-1"] })
    error_message = "Each host's boxes are behind a route to its interface."
  }
  assert {
    condition     = alltrue([for each in aws_network_interface.host : each.source_dest_check == false])
    error_message = "Hosts pass on what is for their boxes."
  }
  assert {
    condition = (keys(aws_vpc_security_group_ingress_rule.ssh) == ["198.51.100.0/24"]
    && length(aws_vpc_security_group_ingress_rule.api) == 0)
    error_message = "Only the allowed sources come in, and nobody reaches the API."
  }
  assert {
    condition     = { for name, rule in aws_vpc_security_group_ingress_rule.peers : name => [rule.from_port, rule.to_port, rule.referenced_security_group_id] } == { ssh = [22, 22, "sg-1"], migration = [8443, 8443, "sg-1"] }
    error_message = "Only hosts reach each other's ssh and Incus."
  }
  assert {
    condition     = aws_subnet.this.map_public_ip_on_launch == false && length(aws_eip.host) == 2 && length(aws_eip.balancer) == 1
    error_message = "There are external addresses of the hosts and the balancer, and no other."
  }
}

variables {
  name              = "jump-1"
  zone              = "us-east-1a"
  machine_type      = "m6i.2xlarge"
  os_image          = "ami-1"
  root_device       = "/dev/sda1"
  boot_disk         = { type = "gp3", size_gb = 30 }
  volume_arn        = "arn:aws:ec2:us-east-1:123456789012:volume/vol-1"
  use_spot_instance = true
  startup_script    = "#!/bin/bash\n: a script\n"
  interface         = "eni-1"
  balanced          = true
  target_group      = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/jump-ssh/1"
  deploy_key_secret = ""
  labels            = { containarium = "jump" }
}

run "spot_host" {
  command = plan
  module {
    source = "../host"
  }
  assert {
    condition = (aws_autoscaling_group.this.min_size == 1 && aws_autoscaling_group.this.max_size == 1
    && aws_autoscaling_group.this.availability_zones == toset(["us-east-1a"]))
    error_message = "Its group makes it again, in the zone of its volume."
  }
  assert {
    condition = (aws_launch_template.this.network_interfaces[0].network_interface_id == "eni-1"
    && tostring(aws_launch_template.this.network_interfaces[0].delete_on_termination) == "false")
    error_message = "It keeps its interface, and with it its addresses."
  }
  assert {
    condition     = aws_launch_template.this.instance_market_options[0].market_type == "spot"
    error_message = "It is a spot machine."
  }
  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Its metadata are not for boxes."
  }
  assert {
    condition = (yamldecode(local.user_data).write_files[0].content == "#!/bin/bash\n: a script\n"
    && yamldecode(local.user_data).write_files[0].path == "/var/lib/cloud/scripts/per-boot/containarium")
    error_message = "It runs the script at every boot."
  }
  assert {
    condition = (aws_autoscaling_group.this.instance_maintenance_policy[0].max_healthy_percentage == 100
    && aws_autoscaling_group.this.instance_maintenance_policy[0].min_healthy_percentage == 0)
    error_message = "The old machine goes before the new one comes."
  }
  assert {
    condition     = length(data.aws_iam_policy_document.host.statement) == 2 && toset(flatten(data.aws_iam_policy_document.host.statement[*].actions)) == toset(["ec2:AttachVolume"])
    error_message = "It may attach its volume, and nothing else."
  }
}

run "regular_host_with_a_secret" {
  command = plan
  module {
    source = "../host"
  }
  variables {
    use_spot_instance = false
    balanced          = false
    target_group      = null
    deploy_key_secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:deploy"
  }
  assert {
    condition     = length(aws_launch_template.this.instance_market_options) == 0 && length(aws_autoscaling_attachment.balancer) == 0
    error_message = "It is a regular machine without a balancer."
  }
  assert {
    condition     = [for each in data.aws_iam_policy_document.host.statement : each.resources if contains(each.actions, "secretsmanager:GetSecretValue")] == [toset(["arn:aws:secretsmanager:us-east-1:123456789012:secret:deploy"])]
    error_message = "It may read this secret, and no other."
  }
}

run "balancer" {
  command = plan
  module {
    source = "../balancer"
  }
  variables {
    instance_name = "jump"
    vpc           = "vpc-1"
    subnet        = "subnet-1"
    address       = { allocation = "eipalloc-1", security_group = "sg-1" }
  }
  assert {
    condition     = tonumber(aws_lb_target_group.ssh.deregistration_delay) == 30
    error_message = "It does not hold up a host that is replaced."
  }
  assert {
    condition     = aws_lb_target_group.ssh.port == 22 && aws_lb_listener.ssh.port == 22
    error_message = "It passes on port 22 and no other."
  }
}
