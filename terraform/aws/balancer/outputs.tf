output "target_group" {
  description = "What hosts register with."
  value       = aws_lb_target_group.ssh.arn
}
