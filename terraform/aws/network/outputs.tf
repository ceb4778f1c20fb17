output "vpc" {
  description = "The network's id."
  value       = aws_vpc.this.id
}

output "subnet" {
  description = "The subnet's id."
  value       = aws_subnet.this.id
}

output "interfaces" {
  description = "By host: the interface that its machine gets."
  value       = { for name, each in aws_network_interface.host : name => each.id }
}

output "addresses" {
  description = "By host: external address."
  value       = { for name, each in aws_eip.host : name => each.public_ip }
}

output "balancer" {
  description = "Address for all hosts, its allocation, and the balancer's security group; absent where there is no balancer."
  value = one([for index, each in aws_eip.balancer : {
    address        = each.public_ip
    allocation     = each.id
    security_group = aws_security_group.balancer[index].id
  }])
}
