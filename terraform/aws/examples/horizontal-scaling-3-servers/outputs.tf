output "ips" {
  value = module.fleet.ips
}

output "private_ips" {
  value = module.fleet.private_ips
}

output "load_balancer_ip" {
  value = module.fleet.load_balancer_ip
}

output "login_address" {
  value = module.fleet.login_address
}

output "ssh_commands" {
  value = module.fleet.ssh_commands
}

output "ssh_config" {
  value = module.fleet.ssh_config
}

output "api_endpoints" {
  value = module.fleet.api_endpoints
}

output "capacity" {
  value = module.fleet.capacity
}

output "costs" {
  value = module.fleet.costs
}

output "host_manifests" {
  value = module.fleet.host_manifests
}
