# A Host manifest of each host, the sync's settings, and the start-up script that writes both.

locals {
  manifests = {
    for name, host in local.hosts : name => {
      apiVersion = "containarium.dev/v1"
      kind       = "Host"
      metadata   = { name = name }
      # Each field that may be absent is a map of none or one: null has no place in a manifest.
      spec = merge(
        var.incus_repository == null ? {} : {
          incus = { repository = { for field, value in var.incus_repository : field => value if value != null } }
        },
        {
          storage = merge(
            { driver = var.storage_driver },
            { for disk in [lookup(var.disks, name, "")] : "disk" => disk if disk != "" },
          )
          network = merge(
            { subnet = host.bridge_address },
            { for address in [host.private_address] : "address" => address if var.jump_server_count > 1 },
          )
          admins = [for admin, keys in var.admin_ssh_keys : { name = admin, sshKeys = keys }]
          logs   = { retention = var.log_retention }
        },
        { for address in [var.login_address] : "login" => { address = address, port = 22 } if address != "" },
      )
    }
  }

  over_ssh = !can(regex("^(https://|file://|/)", var.sync.repository))
  sync = merge(
    { for field, value in var.sync : field => value if value != null },
    { for path in ["/etc/containarium/deploy_key"] : "identity" => path if local.over_ssh },
    { for path in ["/etc/containarium/known_hosts"] : "knownHosts" => path if local.over_ssh },
  )

  # As a person would write it: yamlencode quotes every key.
  manifest_texts = { for name, manifest in local.manifests : name => replace(yamlencode(manifest), local.quoted_key, "$1$2:") }
  quoted_key     = "/(?m)^([ -]*)\"([a-zA-Z]+)\":/"

  scripts = {
    for name, manifest in local.manifests : name => templatefile("${path.module}/startup.sh.tftpl", {
      cloud           = var.cloud
      name            = name
      package         = var.containarium_package
      disk            = lookup(var.disks, name, "")
      region          = var.region
      volume          = lookup(var.volumes, name, "")
      secret          = var.deploy_key_secret
      manifest        = local.manifest_texts[name]
      sync            = replace(yamlencode(local.sync), local.quoted_key, "$1$2:")
      known_hosts     = trimspace(var.sync_known_hosts)
      allowed_signers = trimspace(var.sync_allowed_signers)
    })
  }
}
