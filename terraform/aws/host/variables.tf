variable "name" {
  description = "The host's name."
  type        = string
}

variable "zone" {
  description = "Availability zone of the host and its data volume."
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

variable "volume_arn" {
  description = "ARN of its data volume, which it attaches by itself."
  type        = string
}

variable "use_spot_instance" {
  description = "Whether it is a spot machine."
  type        = bool
}

variable "startup_script" {
  description = "What it runs at every boot."
  type        = string
}

variable "interface" {
  description = "Its network interface, which has its addresses."
  type        = string
}

variable "target_group" {
  description = "Target group of the balancer; absent: none."
  type        = string
}

variable "balanced" {
  description = "Whether there is a balancer."
  type        = bool
}

variable "deploy_key_secret" {
  description = "ARN of the secret that it may read. Empty: none."
  type        = string
}

variable "labels" {
  description = "Tags of the machine and its disks."
  type        = map(string)
}

variable "root_device" {
  description = "What the image calls its root device."
  type        = string
}
