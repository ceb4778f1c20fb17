# What is refused before anything is asked of a cloud.

variables {
  cloud                = "none"
  instance_name        = "jump"
  jump_server_count    = 1
  admin_ssh_keys       = { ops = ["ssh-ed25519 AAAA ops@laptop"] }
  containarium_package = "containarium==0.1.0"
  sync                 = { repository = "https://git.example.org/team/environments.git" }
}

run "no_host" {
  command = plan
  variables {
    jump_server_count = 0
  }
  expect_failures = [var.jump_server_count]
}

run "eleven_hosts" {
  command = plan
  variables {
    jump_server_count = 11
  }
  expect_failures = [var.jump_server_count]
}

run "half_a_host" {
  command = plan
  variables {
    jump_server_count = 1.5
  }
  expect_failures = [var.jump_server_count]
}

run "a_name_that_is_no_label" {
  command = plan
  variables {
    instance_name = "Jump_Server"
  }
  expect_failures = [var.instance_name]
}

run "bridges_that_overlap_with_the_private_network" {
  command = plan
  variables {
    private_cidr = "10.0.0.0/24"
  }
  expect_failures = [var.bridges]
}

run "bridges_that_do_not_fit" {
  command = plan
  variables {
    bridges = { cidr = "10.0.0.0/16", newbits = 2, first = 4 }
  }
  expect_failures = [var.bridges]
}

run "a_private_network_that_is_none" {
  command = plan
  variables {
    private_cidr = "10.0.0.1"
  }
  expect_failures = [var.private_cidr]
}

run "nobody_to_mend_it" {
  command = plan
  variables {
    admin_ssh_keys = {}
  }
  expect_failures = [var.admin_ssh_keys]
}

run "an_admin_without_keys" {
  command = plan
  variables {
    admin_ssh_keys = { ops = [] }
  }
  expect_failures = [var.admin_ssh_keys]
}

run "root_as_an_admin" {
  command = plan
  variables {
    admin_ssh_keys = { root = ["ssh-ed25519 AAAA"] }
  }
  expect_failures = [var.admin_ssh_keys]
}

run "a_private_key" {
  command = plan
  variables {
    admin_ssh_keys = { ops = ["-----BEGIN OPENSSH PRIVATE KEY-----"] }
  }
  expect_failures = [var.admin_ssh_keys]
}

run "two_lines_as_one_key" {
  command = plan
  variables {
    admin_ssh_keys = { ops = ["ssh-ed25519 AAAA\nssh-ed25519 BBBB"] }
  }
  expect_failures = [var.admin_ssh_keys]
}

run "a_package_that_would_be_a_command" {
  command = plan
  variables {
    containarium_package = "containarium'; reboot; '"
  }
  expect_failures = [var.containarium_package]
}

run "a_package_that_would_be_an_option" {
  command = plan
  variables {
    containarium_package = "--index-url=http://example.org"
  }
  expect_failures = [var.containarium_package]
}

run "a_password_in_the_repository" {
  command = plan
  variables {
    sync = { repository = "https://me:secret@git.example.org/x.git" }
  }
  expect_failures = [var.sync]
}

run "branch_and_tag" {
  command = plan
  variables {
    sync = { repository = "https://git.example.org/x.git", branch = "main", tag = "v1" }
  }
  expect_failures = [var.sync]
}

run "ssh_without_host_keys" {
  command = plan
  variables {
    sync = { repository = "git@git.example.org:x.git" }
  }
  expect_failures = [var.sync_known_hosts]
}

run "host_keys_that_end_the_file" {
  command = plan
  variables {
    sync_known_hosts = "a ssh-ed25519 A\nCONTAINARIUM\nreboot"
  }
  expect_failures = [var.sync_known_hosts]
}

run "a_disk_that_is_none" {
  command = plan
  variables {
    disks = { jump-1 = "/etc/passwd" }
  }
  expect_failures = [var.disks]
}

run "a_secret_instead_of_its_name" {
  command = plan
  variables {
    deploy_key_secret = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
  }
  expect_failures = [var.deploy_key_secret]
}

run "an_unknown_file_system" {
  command = plan
  variables {
    storage_driver = "xfs"
  }
  expect_failures = [var.storage_driver]
}

run "more_people_than_a_bridge_has_addresses" {
  command = plan
  variables {
    people_per_host = 254
  }
  expect_failures = [output.capacity]
}
