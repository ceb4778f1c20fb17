output "hosts" {
  description = "By name: private_address, bridge_cidr and bridge_address (with prefix). Known before anything is made."
  value       = local.hosts
}

output "balanced" {
  description = "Whether one address is for all hosts."
  value       = local.balanced
}

output "host_manifests" {
  description = "By name: the Host manifest as YAML, to be committed beside the environments."
  value       = local.manifest_texts
}

output "startup_scripts" {
  description = "By name: what a host runs at every boot. No secret is in it."
  value       = local.scripts
}

output "capacity" {
  description = "How many people the fleet is meant for, how many boxes its networks hold, and what one person's share is."
  value = {
    hosts                = var.jump_server_count
    people               = local.people
    people_per_host      = var.people_per_host
    boxes_per_bridge     = local.boxes_per_bridge
    memory_per_person_gb = local.machine == null ? null : floor(local.machine.memory_gb / var.people_per_host * 100) / 100
    disk_per_person_gb   = floor(var.data_disk.size_gb / var.people_per_host)
  }
  precondition {
    condition     = var.people_per_host <= local.boxes_per_bridge
    error_message = "A bridge has room for ${local.boxes_per_bridge} boxes, fewer than people_per_host: lower bridges.newbits."
  }
}

output "costs" {
  description = "What a month costs, in parts and per person, with the reader's prices. Absent without prices of this kind of machine."
  value       = local.costs
}

output "api_port" {
  description = "Port of each host's API, which answers only where an admin has made certificates."
  value       = 50051
}
