variable "instance_name" {
  description = "What everything is called after."
  type        = string
}

variable "region" {
  description = "Region of the network and of all addresses."
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

variable "service_account" {
  description = "E-mail address of the hosts' service account: the firewall knows them by it."
  type        = string
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
