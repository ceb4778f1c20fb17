variable "instance_name" {
  description = "What everything is called after."
  type        = string
}

variable "zone" {
  description = "Availability zone of the hosts and their data volumes."
  type        = string
}

variable "private_cidr" {
  description = "Range in which the hosts reach each other."
  type        = string
}

variable "hosts" {
  description = "The hosts, as the output hosts of modules/plan."
  type        = map(object({ private_address = string, bridge_cidr = string }))
}

variable "balanced" {
  description = "Whether there is an address for all hosts."
  type        = bool
}

variable "allowed_ssh_sources" {
  description = "Ranges from which people and admins may connect. There is no default."
  type        = list(string)
}

variable "allowed_api_sources" {
  description = "Ranges from which the API (port 50051, mutual TLS) may be reached. Empty: none."
  type        = list(string)
  default     = []
}

variable "labels" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
