variable "instance_name" {
  description = "What everything is called after."
  type        = string
}

variable "region" {
  description = "Region of the hosts."
  type        = string
}

variable "address" {
  description = "The balancer's reserved address."
  type        = string
}

variable "groups" {
  description = "The hosts' instance groups, by the hosts' names."
  type        = map(string)
}
