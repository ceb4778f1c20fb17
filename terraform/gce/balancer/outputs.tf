output "address" {
  description = "Where the balancer listens."
  value       = google_compute_forwarding_rule.ssh.ip_address
}
