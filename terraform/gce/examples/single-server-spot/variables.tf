variable "project_id" {
  description = "Project that everything is made in."
  type        = string
}

variable "region" {
  description = "Region of everything."
  type        = string
  default     = "us-central1"
}

variable "allowed_ssh_sources" {
  description = "Ranges from which people and admins may connect."
  type        = list(string)
}

variable "admin_ssh_keys" {
  description = "Admins of the hosts, with sudo: name to the lines of their public keys."
  type        = map(list(string))
}

variable "containarium_package" {
  description = "What pip installs: a requirement, or the address of a wheel or a git repository."
  type        = string
}

variable "sync" {
  description = "Where the manifests come from."
  type = object({
    repository = string
    branch     = optional(string)
    tag        = optional(string)
    path       = optional(string)
    verify     = optional(any)
  })
}

variable "sync_known_hosts" {
  description = "Host keys of the git server; for a repository over ssh."
  type        = string
  default     = ""
}

variable "deploy_key_secret" {
  description = "Name of the secret with the repository's deploy key. Empty: the repository needs none."
  type        = string
  default     = ""
}

variable "dns_zone_name" {
  description = "Zone for names. Empty: addresses alone."
  type        = string
  default     = ""
}

variable "dns_domain" {
  description = "What people connect to, inside that zone, such as jump.example.org."
  type        = string
  default     = ""
}

variable "prices" {
  description = "Prices to reckon costs with; here those of prices.auto.tfvars."
  type        = any
  default     = null
}
