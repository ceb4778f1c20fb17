# One host: a machine that its group makes again whenever it is gone, with the same network interface (so the same
# addresses), and with the same data volume, which the machine attaches by itself (a group can not).

locals {
  tags = merge(var.labels, { Name = var.name, containarium-host = var.name })
  # What cloud-init runs once only is put where it runs things at every boot.
  user_data = join("\n", ["#cloud-config", yamlencode({
    hostname          = var.name
    preserve_hostname = false
    manage_etc_hosts  = "localhost"
    disable_root      = true
    ssh_pwauth        = false
    write_files = [{
      path        = "/var/lib/cloud/scripts/per-boot/containarium"
      permissions = "0700"
      content     = var.startup_script
    }]
  })])
}

# -- what the machine may do: attach this volume to itself, and read one secret

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "host" {
  statement {
    actions   = ["ec2:AttachVolume"]
    resources = [var.volume_arn]
  }
  statement {
    actions   = ["ec2:AttachVolume"]
    resources = ["arn:aws:ec2:*:*:instance/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/containarium-host"
      values   = [var.name]
    }
  }
  dynamic "statement" {
    for_each = var.deploy_key_secret == "" ? [] : [var.deploy_key_secret]
    content {
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role" "host" {
  name_prefix        = "${var.name}-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = local.tags
}

resource "aws_iam_role_policy" "host" {
  name   = "containarium"
  role   = aws_iam_role.host.id
  policy = data.aws_iam_policy_document.host.json
}

resource "aws_iam_instance_profile" "host" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.host.name
  tags        = local.tags
}

# -- the machine

resource "aws_launch_template" "this" {
  name_prefix            = "${var.name}-"
  image_id               = var.os_image
  instance_type          = var.machine_type
  user_data              = base64gzip(local.user_data)
  update_default_version = true
  ebs_optimized          = true
  tags                   = local.tags

  iam_instance_profile {
    arn = aws_iam_instance_profile.host.arn
  }

  network_interfaces {
    device_index          = 0
    network_interface_id  = var.interface
    delete_on_termination = false
  }

  block_device_mappings {
    device_name = var.root_device
    ebs {
      volume_type           = var.boot_disk.type
      volume_size           = var.boot_disk.size_gb
      encrypted             = true
      delete_on_termination = true
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  dynamic "instance_market_options" {
    for_each = var.use_spot_instance ? ["spot"] : []
    content {
      market_type = "spot"
      spot_options {
        spot_instance_type             = "one-time"
        instance_interruption_behavior = "terminate"
      }
    }
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]
    content {
      resource_type = tag_specifications.value
      tags          = local.tags
    }
  }
}

resource "aws_autoscaling_group" "this" {
  # checkov:skip=CKV_AWS_153:its tags come with the launch template, those of the boot volume too
  name     = var.name
  min_size = 1
  max_size = 1
  # The zone and not the subnet: so it is asked for where a template brings an interface that exists.
  availability_zones = [var.zone]
  health_check_type  = "EC2"
  # Where there is no spot machine to be had just now, the group goes on trying; nobody has to wait for it here.
  wait_for_capacity_timeout = "0"

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  # The old machine goes before the new one comes: both need the same interface and volume.
  instance_maintenance_policy {
    min_healthy_percentage = 0
    max_healthy_percentage = 100
  }

  tag {
    key                 = "Name"
    value               = var.name
    propagate_at_launch = false
  }

  depends_on = [aws_iam_role_policy.host]
}

resource "aws_autoscaling_attachment" "balancer" {
  # checkov:skip=CKV2_AWS_15:the balancer leaves out a host that is too busy to answer; making it anew would end every login
  count                  = var.balanced ? 1 : 0
  autoscaling_group_name = aws_autoscaling_group.this.name
  lb_target_group_arn    = var.target_group
}
