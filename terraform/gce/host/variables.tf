variable "name" {
  description = "The host's name."
  type        = string
}

variable "zone" {
  description = "Zone of the host and of its data disk."
  type        = string
}

variable "machine_type" {
  description = "Kind of machine."
  type        = string
}

variable "os_image" {
  description = "Image of the boot disk."
  type        = string
}

variable "boot_disk" {
  description = "The boot disk: nothing on it is kept."
  type        = object({ type = string, size_gb = number })
}

variable "data_disk" {
  description = "The data disk: everything that counts is on it."
  type        = object({ type = string, size_gb = number })
}

variable "use_spot_instance" {
  description = "Whether it is a spot machine."
  type        = bool
}

variable "startup_script" {
  description = "What it runs at every boot."
  type        = string
}

variable "subnetwork" {
  description = "Subnetwork that it is in."
  type        = string
}

variable "addresses" {
  description = "Its reserved addresses, by id."
  type        = object({ private_id = string, external_id = string })
}

variable "service_account" {
  description = "E-mail address of its service account."
  type        = string
}

variable "health_check" {
  description = "Health check by which its group tells that it is gone."
  type        = string
}

variable "snapshot_policy" {
  description = "Name of the snapshots' policy. Empty: no snapshots."
  type        = string
}

variable "enable_snapshots" {
  description = "Whether the data disk has snapshots."
  type        = bool
}

variable "labels" {
  description = "Labels of the machine and its disks."
  type        = map(string)
}
