# What is decided about a fleet, without any cloud: names, addresses, manifests, the start-up script, capacity, costs.

locals {
  names    = [for number in range(1, var.jump_server_count + 1) : "${var.instance_name}-${number}"]
  balanced = coalesce(var.enable_load_balancer, var.jump_server_count > 1)

  # The first addresses of a network belong to the cloud.
  first_address = 10

  hosts = {
    for index, name in local.names : name => {
      private_address = cidrhost(var.private_cidr, local.first_address + index)
      bridge_cidr     = cidrsubnet(var.bridges.cidr, var.bridges.newbits, var.bridges.first + index)
      bridge_address = join("/", [
        cidrhost(cidrsubnet(var.bridges.cidr, var.bridges.newbits, var.bridges.first + index), 1),
        split("/", cidrsubnet(var.bridges.cidr, var.bridges.newbits, var.bridges.first + index))[1],
      ])
    }
  }

  # Without the network's own, the bridge's and the broadcast address.
  boxes_per_bridge = pow(2, 32 - tonumber(split("/", values(local.hosts)[0].bridge_cidr)[1])) - 3
}
