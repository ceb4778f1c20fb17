output "group" {
  description = "The instance group of which this host is the only member, for a balancer."
  value       = google_compute_instance_group_manager.this.instance_group
}

output "data_disk" {
  description = "Name of the data disk."
  value       = google_compute_disk.data.name
}
