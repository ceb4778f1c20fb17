# A fleet of 1 to 10 hosts on Amazon EC2. What there is to decide is decided in modules/plan.

locals {
  zone    = coalesce(var.zone, "${var.region}a")
  labels  = merge({ containarium = var.instance_name }, var.labels)
  address = module.plan.balanced ? try(module.network.balancer.address, "") : module.network.addresses[keys(module.plan.hosts)[0]]
  single  = var.jump_server_count == 1 || module.plan.balanced
}

module "plan" {
  source               = "../../modules/plan"
  cloud                = "aws"
  region               = var.region
  instance_name        = var.instance_name
  jump_server_count    = var.jump_server_count
  enable_load_balancer = var.enable_load_balancer
  private_cidr         = var.private_cidr
  bridges              = var.bridges
  # Several hosts without balancer and name have no one address.
  login_address        = var.dns_domain != "" ? var.dns_domain : local.single ? local.address : ""
  admin_ssh_keys       = var.admin_ssh_keys
  storage_driver       = var.storage_driver
  disks                = { for name, volume in module.volume : name => volume.disk }
  volumes              = { for name, volume in module.volume : name => volume.id }
  incus_repository     = var.incus_repository
  containarium_package = var.containarium_package
  sync                 = var.sync
  sync_known_hosts     = var.sync_known_hosts
  sync_allowed_signers = var.sync_allowed_signers
  deploy_key_secret    = var.deploy_key_secret
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
  zone                = local.zone
  private_cidr        = var.private_cidr
  hosts               = module.plan.hosts
  balanced            = module.plan.balanced
  allowed_ssh_sources = var.allowed_ssh_sources
  allowed_api_sources = var.allowed_api_sources
  labels              = local.labels
}

module "volume" {
  source    = "../volume"
  for_each  = module.plan.hosts
  name      = each.key
  fleet     = var.instance_name
  zone      = local.zone
  data_disk = var.data_disk
  labels    = local.labels
}

module "host" {
  source            = "../host"
  for_each          = module.plan.hosts
  name              = each.key
  zone              = local.zone
  machine_type      = var.machine_type
  os_image          = var.os_image
  root_device       = var.root_device
  boot_disk         = var.boot_disk
  volume_arn        = module.volume[each.key].arn
  use_spot_instance = var.use_spot_instance
  startup_script    = module.plan.startup_scripts[each.key]
  interface         = module.network.interfaces[each.key]
  balanced          = module.plan.balanced
  target_group      = one(module.balancer[*].target_group)
  deploy_key_secret = var.deploy_key_secret
  labels            = local.labels
}

module "balancer" {
  source        = "../balancer"
  count         = module.plan.balanced ? 1 : 0
  instance_name = var.instance_name
  vpc           = module.network.vpc
  subnet        = module.network.subnet
  address       = module.network.balancer
  labels        = local.labels
}

# -- snapshots of every volume that is tagged so

data "aws_iam_policy_document" "snapshots" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["dlm.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "snapshots" {
  count              = var.enable_disk_snapshots ? 1 : 0
  name_prefix        = "${substr(var.instance_name, 0, 20)}-snapshots-"
  assume_role_policy = data.aws_iam_policy_document.snapshots.json
  tags               = local.labels
}

resource "aws_iam_role_policy_attachment" "snapshots" {
  count      = var.enable_disk_snapshots ? 1 : 0
  role       = aws_iam_role.snapshots[0].name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRole"
}

resource "aws_dlm_lifecycle_policy" "snapshots" {
  count              = var.enable_disk_snapshots ? 1 : 0
  description        = "Data volumes of ${var.instance_name} every day"
  execution_role_arn = aws_iam_role.snapshots[0].arn
  state              = "ENABLED"
  tags               = local.labels
  policy_details {
    resource_types = ["VOLUME"]
    target_tags    = { containarium-data = var.instance_name }
    schedule {
      name      = "daily"
      copy_tags = true
      create_rule {
        interval      = 24
        interval_unit = "HOURS"
        times         = ["03:00"]
      }
      retain_rule {
        count = var.snapshot_retention_days
      }
    }
  }
}

# -- names

resource "aws_route53_record" "login" {
  # checkov:skip=CKV2_AWS_23:it names an address of this fleet
  count   = var.dns_zone_id == "" ? 0 : 1
  zone_id = var.dns_zone_id
  name    = var.dns_domain
  type    = "A"
  ttl     = 300
  records = local.single ? [local.address] : values(module.network.addresses)
}

resource "aws_route53_record" "host" {
  # checkov:skip=CKV2_AWS_23:it names an address of this fleet
  for_each = var.dns_zone_id == "" ? {} : module.plan.hosts
  zone_id  = var.dns_zone_id
  name     = "${each.key}.${var.dns_domain}"
  type     = "A"
  ttl      = 300
  records  = [module.network.addresses[each.key]]
}
