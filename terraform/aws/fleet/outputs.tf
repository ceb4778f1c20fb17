locals {
  external = module.network.addresses
}

locals {
  login = var.dns_domain != "" ? var.dns_domain : local.single ? local.address : ""
  admin = keys(var.admin_ssh_keys)[0]
  names = {
    for name, address in local.external : name => var.dns_domain != "" ? "${name}.${var.dns_domain}" : address
  }
}

output "ips" {
  description = "External address of each host."
  value       = local.external
}

output "private_ips" {
  description = "Address of each host in the private network."
  value       = { for name, host in module.plan.hosts : name => host.private_address }
}

output "load_balancer_ip" {
  description = "Address for all hosts; absent where there is no balancer."
  value       = module.plan.balanced ? local.address : null
}

output "login_address" {
  description = "What people connect to, as the Host manifests say it."
  value       = local.login
}

output "ssh_commands" {
  description = "How an admin gets onto each host."
  value       = { for name, address in local.names : name => "ssh ${local.admin}@${address}" }
}

output "ssh_config" {
  description = "For an admin's ~/.ssh/config. People get theirs from containarium export."
  value = join("\n", [
    for name, address in local.names :
    "Host ${name}\n    HostName ${address}\n    User ${local.admin}\n    IdentitiesOnly yes\n    IdentityFile ~/.ssh/id_ed25519\n"
  ])
}

output "api_endpoints" {
  description = "Each host's API, for containarium context add; it answers once the host has certificates and --mtls."
  value       = { for name, address in local.names : name => "${address}:${module.plan.api_port}" }
}

output "capacity" {
  description = "How many people the fleet is meant for, and what one person's share is."
  value       = module.plan.capacity
}

output "costs" {
  description = "What a month costs, with the prices given."
  value       = module.plan.costs
}

output "host_manifests" {
  description = "Host manifests, to be committed beside the environments, with identity added by containarium host manifest."
  value       = module.plan.host_manifests
}
