output "subnetwork" {
  description = "The subnetwork's id."
  value       = google_compute_subnetwork.this.id
}

output "addresses" {
  description = "By host: private and external address, and the ids that a machine is given them by."
  value = {
    for name in keys(var.hosts) : name => {
      private     = google_compute_address.private[name].address
      private_id  = google_compute_address.private[name].self_link
      external    = google_compute_address.external[name].address
      external_id = google_compute_address.external[name].self_link
    }
  }
}

output "balancer_address" {
  description = "Address for all hosts; empty where there is no balancer."
  value       = one(google_compute_address.balancer[*].address)
}
