variable "region" {
  description = "Region of everything."
  type        = string
}

variable "zone" {
  description = "Availability zone of the hosts and their data volumes. Absent: zone a of the region."
  type        = string
  default     = null
}

variable "machine_type" {
  description = "Kind of machine of each host: one of the Nitro kinds, on which volumes are NVMe devices."
  type        = string
  default     = "m6i.2xlarge"
}

variable "os_image" {
  description = "Image of the boot disks, or resolve:ssm: and the parameter that names it: Ubuntu 24.04, or Debian 12 or 13."
  type        = string
  default     = "resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
}

variable "root_device" {
  description = "What the image calls its root device: /dev/sda1 for Ubuntu, /dev/xvda for Debian."
  type        = string
  default     = "/dev/sda1"
}

variable "boot_disk" {
  description = "Each host's boot disk."
  type        = object({ type = string, size_gb = number })
  default     = { type = "gp3", size_gb = 30 }
}

variable "data_disk" {
  description = "Each host's data volume. It is never deleted by Terraform; how it grows is in the README, under Later."
  type        = object({ type = string, size_gb = number })
  default     = { type = "gp3", size_gb = 500 }
}

variable "enable_disk_snapshots" {
  description = "Whether the data volumes are snapshotted, daily at 03:00."
  type        = bool
  default     = true
}

variable "snapshot_retention_days" {
  description = "How long a snapshot is kept."
  type        = number
  default     = 30
}

variable "use_spot_instance" {
  description = "Whether the hosts are spot machines."
  type        = bool
  default     = false
}

variable "allowed_ssh_sources" {
  description = "Ranges from which people and admins may connect. There is no default."
  type        = list(string)
  validation {
    condition     = length(var.allowed_ssh_sources) > 0 && alltrue([for range in var.allowed_ssh_sources : can(cidrhost(range, 0))])
    error_message = "Name at least one range, such as 203.0.113.0/24; whoever wants the whole internet has to write 0.0.0.0/0."
  }
}

variable "allowed_api_sources" {
  description = "Ranges from which the API may be reached. Empty: none."
  type        = list(string)
  default     = []
}

variable "dns_zone_id" {
  description = "Id of a hosted zone of Route 53. Empty: no names."
  type        = string
  default     = ""
}

variable "dns_domain" {
  description = "What people connect to, inside that zone, such as jump.example.org; hosts are jump-1.jump.example.org, ..."
  type        = string
  default     = ""
  validation {
    condition     = (var.dns_domain == "") == (var.dns_zone_id == "")
    error_message = "dns_zone_id and dns_domain go together."
  }
}

variable "deploy_key_secret" {
  description = "ARN of the secret of Secrets Manager with the repository's deploy key. Empty: there is none."
  type        = string
  default     = ""
}

variable "labels" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}

# -- handed on to modules/plan, which says what they may be

variable "instance_name" {
  description = "What everything is called after; hosts are instance_name-1, instance_name-2, ..."
  type        = string
  default     = "jump"
}

variable "jump_server_count" {
  description = "How many hosts there are, 1 to 10."
  type        = number
  default     = 1
}

variable "enable_load_balancer" {
  description = "Whether one address is for all hosts. Absent: where there is more than one host."
  type        = bool
  default     = null
}

variable "private_cidr" {
  description = "Range in which the hosts reach each other."
  type        = string
  default     = "10.128.0.0/24"
}

variable "bridges" {
  description = "The hosts' bridges: host N has network first+N-1 of those that cidr splits into, each newbits longer."
  type        = object({ cidr = string, newbits = number, first = number })
  default     = { cidr = "10.0.0.0/16", newbits = 8, first = 3 }
}

variable "admin_ssh_keys" {
  description = "Admins of the hosts, with sudo: name to the lines of their public keys."
  type        = map(list(string))
}

variable "storage_driver" {
  description = "What the data disks are formatted with: zfs, btrfs or dir."
  type        = string
  default     = "zfs"
}

variable "incus_repository" {
  description = "An apt repository of Incus' upstream. Absent: the distribution's own packages."
  type        = object({ url = string, key = string, suite = optional(string), components = optional(list(string)) })
  default     = null
}

variable "containarium_package" {
  description = "What pip installs: a requirement, or the address of a wheel or a git repository."
  type        = string
}

variable "sync" {
  description = "Where the manifests come from: repository, and branch or tag, path, verify."
  type = object({
    repository = string
    branch     = optional(string)
    tag        = optional(string)
    path       = optional(string)
    verify     = optional(any)
  })
}

variable "sync_known_hosts" {
  description = "Host keys of the git server, as known_hosts lines; for a repository over ssh."
  type        = string
  default     = ""
}

variable "sync_allowed_signers" {
  description = "Who may sign commits; written to /etc/containarium/allowed_signers."
  type        = string
  default     = ""
}

variable "people_per_host" {
  description = "How many people one host is meant for."
  type        = number
  default     = 50
}

variable "prices" {
  description = "Prices to reckon costs with, such as terraform/prices/*.tfvars. Absent: no costs."
  type        = any
  default     = null
}
