output "group" {
  description = "Name of the scaling group of which this host is the only member."
  value       = aws_autoscaling_group.this.name
}
