# What is decided about a fleet, without any cloud.

variables {
  cloud                = "none"
  instance_name        = "jump"
  jump_server_count    = 1
  admin_ssh_keys       = { ops = ["ssh-ed25519 AAAA ops@laptop"] }
  containarium_package = "containarium==0.1.0"
  sync                 = { repository = "https://git.example.org/team/environments.git" }
}

run "one_host" {
  assert {
    condition = output.hosts == {
      jump-1 = { private_address = "10.128.0.10", bridge_cidr = "10.0.3.0/24", bridge_address = "10.0.3.1/24" }
    }
    error_message = "The only host has the bridge that Containarium makes by itself."
  }
  assert {
    condition     = !output.balanced && output.costs == null && output.capacity.people == 50
    error_message = "One host has no balancer, is for 50 people, and costs are not known without prices."
  }
  assert {
    condition = yamldecode(output.host_manifests["jump-1"]) == {
      apiVersion = "containarium.dev/v1"
      kind       = "Host"
      metadata   = { name = "jump-1" }
      spec = {
        storage = { driver = "zfs" }
        network = { subnet = "10.0.3.1/24" }
        admins  = [{ name = "ops", sshKeys = ["ssh-ed25519 AAAA ops@laptop"] }]
        logs    = { retention = "90d" }
      }
    }
    error_message = "A manifest says what is known, and leaves out what is not."
  }
}

run "ten_hosts" {
  variables {
    jump_server_count = 10
    login_address     = "jump.example.org"
    disks             = { jump-10 = "/dev/disk/by-id/google-data" }
    incus_repository  = { url = "https://packages.example.org/incus", key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n" }
  }
  assert {
    condition     = length(output.hosts) == 10 && output.balanced && output.capacity.people == 500
    error_message = "Ten hosts stand behind a balancer, for 500 people."
  }
  assert {
    condition = alltrue([
      for kind in ["private_address", "bridge_cidr", "bridge_address"] : length(distinct([for host in values(output.hosts) : host[kind]])) == 10
    ])
    error_message = "No two hosts share an address or a network."
  }
  assert {
    condition = yamldecode(output.host_manifests["jump-10"]).spec == {
      incus   = { repository = { url = "https://packages.example.org/incus", key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n" } }
      storage = { driver = "zfs", disk = "/dev/disk/by-id/google-data" }
      network = { subnet = "10.0.12.1/24", address = "10.128.0.19" }
      login   = { address = "jump.example.org", port = 22 }
      admins  = [{ name = "ops", sshKeys = ["ssh-ed25519 AAAA ops@laptop"] }]
      logs    = { retention = "90d" }
    }
    error_message = "Each host says where the others reach it, and what people connect to."
  }
}

run "a_repository_over_ssh" {
  variables {
    sync              = { repository = "git@git.example.org:team/environments.git", tag = "v1" }
    sync_known_hosts  = "git.example.org ssh-ed25519 AAAA"
    deploy_key_secret = "projects/p/secrets/s/versions/latest"
    cloud             = "gce"
  }
  assert {
    condition     = strcontains(output.startup_scripts["jump-1"], "identity: \"/etc/containarium/deploy_key\"\nknownHosts: \"/etc/containarium/known_hosts\"\nrepository: \"git@git.example.org:team/environments.git\"\ntag: \"v1\"\n")
    error_message = "The sync has the key and the server's host keys."
  }
  assert {
    condition     = strcontains(output.startup_scripts["jump-1"], "secrets/s/versions/latest:access")
    error_message = "The key is fetched from the cloud's store."
  }
}

run "costs" {
  variables {
    jump_server_count = 3
    machine_type      = "small"
    use_spot_instance = true
    boot_disk         = { type = "plain", size_gb = 10 }
    data_disk         = { type = "plain", size_gb = 100 }
    snapshots         = true
    prices = {
      currency          = "EUR", region = "here", date = "today", hours_per_month = 100
      machines          = { small = { vcpus = 2, memory_gb = 25, regular_hour = 1, spot_hour = 0.5 } }
      disk_gb_month     = { plain = 0.1 }
      snapshot_gb_month = 0.2, snapshot_share = 0.5
      address_hour      = { regular = 0.02, spot = 0.01 }, balancer_hour = 0.04
    }
  }
  assert {
    condition = output.costs.parts == {
      machine = 150, boot_disk = 3, data_disk = 30, snapshots = 30, address = 3, balancer = 4
    }
    error_message = "Three machines for 100 hours, their disks, snapshots and addresses, and one balancer."
  }
  assert {
    condition     = output.costs.month == 220 && output.costs.per_person == 1.47
    error_message = "220 a month are 1.47 for each of 150 people."
  }
  assert {
    condition     = output.capacity.memory_per_person_gb == 0.5 && output.capacity.disk_per_person_gb == 2
    error_message = "25 GB and 100 GB are shared by 50 people."
  }
}

run "a_machine_without_a_price_costs_what_is_not_known" {
  variables {
    machine_type = "other"
    prices = {
      currency          = "EUR", region = "here", date = "today", hours_per_month = 100, machines = {}, disk_gb_month = {}
      snapshot_gb_month = 0.2, snapshot_share = 0.5, address_hour = {}, balancer_hour = 0.04
    }
  }
  assert {
    condition     = output.costs == null
    error_message = "What has no price has no sum."
  }
}
