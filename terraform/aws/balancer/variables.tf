variable "instance_name" {
  description = "What everything is called after."
  type        = string
}

variable "vpc" {
  description = "Network of the hosts."
  type        = string
}

variable "subnet" {
  description = "Subnet that the balancer is in."
  type        = string
}

variable "address" {
  description = "The balancer's address: its allocation, and the security group that says from where."
  type        = object({ allocation = string, security_group = string })
}

variable "labels" {
  description = "Tags of the balancer."
  type        = map(string)
  default     = {}
}
