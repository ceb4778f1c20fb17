# What a month costs, reckoned with the reader's own prices, and how many people there is room for.

locals {
  # A price that the reader's file does not have is no reason to make no hosts.
  priced = alltrue([
    can(var.prices.machines[var.machine_type]), can(var.prices.disk_gb_month[var.boot_disk.type]),
    can(var.prices.disk_gb_month[var.data_disk.type]),
  ])
  machine = local.priced ? var.prices.machines[var.machine_type] : null
  payment = var.use_spot_instance ? "spot" : "regular"

  # Of one host and one month.
  host_costs = local.machine == null ? null : {
    machine   = var.prices.hours_per_month * (var.use_spot_instance ? local.machine.spot_hour : local.machine.regular_hour)
    boot_disk = var.boot_disk.size_gb * var.prices.disk_gb_month[var.boot_disk.type]
    data_disk = var.data_disk.size_gb * var.prices.disk_gb_month[var.data_disk.type]
    snapshots = var.snapshots ? var.data_disk.size_gb * var.prices.snapshot_share * var.prices.snapshot_gb_month : 0
    address   = var.prices.hours_per_month * var.prices.address_hour[local.payment]
  }

  monthly = local.host_costs == null ? null : merge(
    { for part, cost in local.host_costs : part => cost * var.jump_server_count },
    { balancer = local.balanced ? var.prices.hours_per_month * var.prices.balancer_hour : 0 },
  )

  people = var.people_per_host * var.jump_server_count

  costs = local.monthly == null ? null : {
    currency   = var.prices.currency
    region     = var.prices.region
    prices_of  = var.prices.date
    payment    = local.payment
    parts      = { for part, cost in local.monthly : part => floor(cost * 100 + 0.5) / 100 }
    month      = floor(sum(values(local.monthly)) + 0.5)
    per_person = floor(sum(values(local.monthly)) / local.people * 100 + 0.5) / 100
  }
}
