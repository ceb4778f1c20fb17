variable "name" {
  description = "The host's name."
  type        = string
}

variable "fleet" {
  description = "Name of the fleet, by which the snapshots' policy finds the volume."
  type        = string
}

variable "zone" {
  description = "Availability zone of the host and its data volume."
  type        = string
}

variable "data_disk" {
  description = "Type and size in GB."
  type        = object({ type = string, size_gb = number })
}

variable "labels" {
  description = "Tags of the volume."
  type        = map(string)
}
