variable "cloud" {
  description = "Where the hosts are: gce, aws, or none (any machine that has its data disk already)."
  type        = string
  validation {
    condition     = contains(["gce", "aws", "none"], var.cloud)
    error_message = "cloud is gce, aws or none."
  }
}

variable "instance_name" {
  description = "What the hosts are called: instance_name-1, instance_name-2, ..."
  type        = string
  validation {
    condition     = can(regex("^[a-z](?:[a-z0-9]|-[a-z0-9]){0,39}$", var.instance_name))
    error_message = "Write lowercase letters, digits and single hyphens, a letter first, at most 40 characters."
  }
}

variable "jump_server_count" {
  description = "How many hosts there are, 1 to 10."
  type        = number
  validation {
    condition     = floor(var.jump_server_count) == var.jump_server_count && var.jump_server_count >= 1 && var.jump_server_count <= 10
    error_message = "There can be 1 to 10 hosts."
  }
}

variable "enable_load_balancer" {
  description = "Whether one address is for all hosts. Absent: where there is more than one host."
  type        = bool
  default     = null
}

variable "private_cidr" {
  description = "IPv4 range of the private network in which the hosts reach each other, /16 to /27."
  type        = string
  default     = "10.128.0.0/24"
  validation {
    condition = (can(cidrnetmask(var.private_cidr)) && try(
      tonumber(split("/", var.private_cidr)[1]) >= 16 && tonumber(split("/", var.private_cidr)[1]) <= 27, false
    ))
    error_message = "Write an IPv4 range of /16 to /27, such as 10.128.0.0/24."
  }
}

variable "bridges" {
  description = "The hosts' bridges: host N has network first+N-1 of those that cidr splits into, each newbits longer."
  type        = object({ cidr = string, newbits = number, first = number })
  default     = { cidr = "10.0.0.0/16", newbits = 8, first = 3 }
  validation {
    condition     = can(cidrsubnet(var.bridges.cidr, var.bridges.newbits, var.bridges.first + var.jump_server_count - 1))
    error_message = "These bridges do not fit: raise newbits, or lower first."
  }
  validation {
    # Two ranges overlap exactly when the shorter prefix makes them the same.
    condition = length(distinct([
      for cidr in [var.private_cidr, var.bridges.cidr] : cidrhost(join("/", [
        split("/", cidr)[0],
        min([for each in [var.private_cidr, var.bridges.cidr] : tonumber(split("/", each)[1])]...)
      ]), 0)
    ])) == 2
    error_message = "The bridges overlap with private_cidr: a host could not tell a box from another host."
  }
}

variable "login_address" {
  description = "What people connect to: a name, or an address of the balancer or of the only host. Empty: the hosts ask."
  type        = string
  default     = ""
}

variable "admin_ssh_keys" {
  description = "Admins of the hosts, with sudo: name to the lines of their public keys."
  type        = map(list(string))
  validation {
    condition     = length(var.admin_ssh_keys) > 0 && alltrue([for keys in values(var.admin_ssh_keys) : length(keys) > 0])
    error_message = "Name at least one admin, each with at least one key: nobody else gets in to mend anything."
  }
  validation {
    condition     = alltrue([for name in keys(var.admin_ssh_keys) : can(regex("^[a-z][a-z0-9-]{0,31}$", name)) && name != "root"])
    error_message = "An admin's name is that of an account: lowercase letters, digits and hyphens; root is not one."
  }
  validation {
    condition     = alltrue([for line in flatten(values(var.admin_ssh_keys)) : can(regex("^(ssh-|ecdsa-|sk-)[^\n]*$", line))])
    error_message = "A key is one line that begins with its kind, such as ssh-ed25519 AAAA... ops@laptop; never a private key."
  }
}

variable "storage_driver" {
  description = "What the data disk is formatted with: zfs, btrfs or dir."
  type        = string
  default     = "zfs"
  validation {
    condition     = contains(["zfs", "btrfs", "dir"], var.storage_driver)
    error_message = "storage_driver is zfs, btrfs or dir."
  }
}

variable "disks" {
  description = "Path of the data disk on each host, by the host's name."
  type        = map(string)
  default     = {}
  validation {
    condition     = alltrue([for path in values(var.disks) : can(regex("^/dev/[A-Za-z0-9/_.:-]+$", path))])
    error_message = "A disk is a path below /dev."
  }
}

variable "log_retention" {
  description = "How long the hosts keep their logs."
  type        = string
  default     = "90d"
}

variable "incus_repository" {
  description = "An apt repository of Incus' upstream, as spec.incus.repository of a Host. Absent: the distribution's own packages."
  type        = object({ url = string, key = string, suite = optional(string), components = optional(list(string)) })
  default     = null
}

variable "containarium_package" {
  description = "What pip installs: a requirement (containarium==1.2.3), or the address of a wheel or a git repository."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9/][A-Za-z0-9 @:/._+=,<>~!#&?%\\[\\]-]*$", var.containarium_package))
    error_message = "Write a requirement or an address, on one line, without quotes."
  }
}

variable "sync" {
  description = "Where the manifests come from: what /etc/containarium/sync.yaml says, without keys."
  type = object({
    repository = string
    branch     = optional(string)
    tag        = optional(string)
    path       = optional(string)
    verify     = optional(any)
  })
  validation {
    condition     = can(regex("^(https://[^@]+|ssh://.+|[^/:@ ]+@[^/: ]+:.+|file:///.+|/.+)$", var.sync.repository))
    error_message = "Write https://HOST/PATH, ssh://git@HOST/PATH or git@HOST:PATH; a password has no place in it."
  }
  validation {
    condition     = var.sync.branch == null || var.sync.tag == null
    error_message = "There are a branch and a tag: keep one of them."
  }
}

variable "sync_known_hosts" {
  description = "Host keys of the git server, as known_hosts lines; for a repository over ssh."
  type        = string
  default     = ""
  validation {
    condition     = trimspace(var.sync_known_hosts) != "" || can(regex("^(https://|file://|/)", var.sync.repository))
    error_message = "A repository over ssh needs the server's host keys: compare what ssh-keyscan prints with what its owner says."
  }
  validation {
    condition     = !can(regex("(?m)^CONTAINARIUM$", var.sync_known_hosts))
    error_message = "These are no host keys."
  }
}

variable "sync_allowed_signers" {
  description = "Who may sign commits, as lines of ssh-keygen's allowed signers; written to /etc/containarium/allowed_signers."
  type        = string
  default     = ""
  validation {
    condition     = !can(regex("(?m)^CONTAINARIUM$", var.sync_allowed_signers))
    error_message = "These are no signers."
  }
}

variable "deploy_key_secret" {
  description = "Where a host fetches its deploy key: the secret's name in the cloud's own store. Empty: there is none."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^[A-Za-z0-9/_+=.@:-]*$", var.deploy_key_secret))
    error_message = "This is the name of a secret, not the secret."
  }
}

variable "region" {
  description = "Region in which the start-up script asks the cloud; AWS only."
  type        = string
  default     = ""
}

variable "volumes" {
  description = "The volume that each host attaches by itself, by the host's name; AWS only."
  type        = map(string)
  default     = {}
}

variable "people_per_host" {
  description = "How many people one host is meant for."
  type        = number
  default     = 50
}

variable "machine_type" {
  description = "Kind of machine, as the cloud names it; for costs and capacity."
  type        = string
  default     = ""
}

variable "use_spot_instance" {
  description = "Whether the machines are spot machines."
  type        = bool
  default     = false
}

variable "boot_disk" {
  description = "Each host's boot disk; for costs."
  type        = object({ type = string, size_gb = number })
  default     = { type = "", size_gb = 0 }
}

variable "data_disk" {
  description = "Each host's data disk; for costs."
  type        = object({ type = string, size_gb = number })
  default     = { type = "", size_gb = 0 }
}

variable "snapshots" {
  description = "Whether the data disks have snapshots; for costs."
  type        = bool
  default     = false
}

variable "prices" {
  description = "Prices to reckon costs with, such as terraform/prices/gce.tfvars. Absent: no costs."
  type = object({
    currency          = string
    region            = string
    date              = string
    hours_per_month   = number
    machines          = map(object({ vcpus = number, memory_gb = number, regular_hour = number, spot_hour = number }))
    disk_gb_month     = map(number)
    snapshot_gb_month = number
    snapshot_share    = number # of a data disk's size that its snapshots take in all
    address_hour      = map(number)
    balancer_hour     = number
  })
  default = null
}
