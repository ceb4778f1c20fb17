# The private network: interfaces with addresses that stay, a route to each host's boxes, and who may connect to what.

locals {
  fleet = length(var.hosts) > 1
}

resource "aws_vpc" "this" {
  # checkov:skip=CKV2_AWS_11:who logs in where is in each host's own journal; flow logs cost more than the network
  cidr_block           = var.private_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(var.labels, { Name = var.instance_name })
}

# The group that AWS gives a network lets its members talk to each other; emptied, it lets nobody.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = merge(var.labels, { Name = var.instance_name })
}

resource "aws_subnet" "this" {
  vpc_id                  = aws_vpc.this.id
  cidr_block              = var.private_cidr
  availability_zone       = var.zone
  map_public_ip_on_launch = false
  tags                    = merge(var.labels, { Name = var.instance_name })
}

resource "aws_route_table" "this" {
  vpc_id = aws_vpc.this.id
  tags   = merge(var.labels, { Name = var.instance_name })
}

resource "aws_route_table_association" "this" {
  subnet_id      = aws_subnet.this.id
  route_table_id = aws_route_table.this.id
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.this.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

# By interface and not by machine: the interface stays when the machine is made anew.
resource "aws_route" "bridge" {
  for_each               = local.fleet ? var.hosts : {}
  route_table_id         = aws_route_table.this.id
  destination_cidr_block = each.value.bridge_cidr
  network_interface_id   = aws_network_interface.host[each.key].id
}

resource "aws_network_interface" "host" {
  for_each          = var.hosts
  subnet_id         = aws_subnet.this.id
  private_ips       = [each.value.private_address]
  security_groups   = [aws_security_group.host.id]
  source_dest_check = false # hosts pass on what is for their boxes
  description       = "The interface of ${each.key}, whichever machine it is"
  tags              = merge(var.labels, { Name = each.key })
}

resource "aws_eip" "host" {
  # checkov:skip=CKV2_AWS_19:it belongs to the host's interface, which whichever machine it is gets
  for_each = var.hosts
  domain   = "vpc"
  tags     = merge(var.labels, { Name = each.key })
}

resource "aws_eip_association" "host" {
  for_each             = var.hosts
  allocation_id        = aws_eip.host[each.key].id
  network_interface_id = aws_network_interface.host[each.key].id
}

resource "aws_eip" "balancer" {
  # checkov:skip=CKV2_AWS_19:it belongs to the network balancer, by its subnet_mapping
  count  = var.balanced ? 1 : 0
  domain = "vpc"
  tags   = merge(var.labels, { Name = "${var.instance_name}-balancer" })
}

# -- hosts

resource "aws_security_group" "host" {
  name        = "${var.instance_name}-host"
  description = "Hosts: ssh from the allowed sources, and from each other"
  vpc_id      = aws_vpc.this.id
  tags        = merge(var.labels, { Name = "${var.instance_name}-host" })
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each          = toset(var.allowed_ssh_sources)
  security_group_id = aws_security_group.host.id
  description       = "ssh"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  for_each          = toset(var.allowed_api_sources)
  security_group_id = aws_security_group.host.id
  description       = "The API, mutual TLS"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 50051
  to_port           = 50051
}

# Hosts ask each other over ssh, log in to each other's boxes (a rule of AWS does not tell these from the host), and
# one fetches an environment from another's Incus.
resource "aws_vpc_security_group_ingress_rule" "peers" {
  for_each                     = local.fleet ? { ssh = 22, migration = 8443 } : {}
  security_group_id            = aws_security_group.host.id
  description                  = "Between hosts: ${each.key}"
  referenced_security_group_id = aws_security_group.host.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

# Both people behind the balancer (it keeps their addresses) and its health checks.
resource "aws_vpc_security_group_ingress_rule" "balancer" {
  # checkov:skip=CKV_AWS_24:its source is the balancer's group, and no range
  count                        = var.balanced ? 1 : 0
  security_group_id            = aws_security_group.host.id
  description                  = "ssh through the balancer"
  referenced_security_group_id = aws_security_group.balancer[0].id
  ip_protocol                  = "tcp"
  from_port                    = 22
  to_port                      = 22
}

resource "aws_vpc_security_group_egress_rule" "host" {
  security_group_id = aws_security_group.host.id
  description       = "People install what they need"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

# -- balancer

resource "aws_security_group" "balancer" {
  # checkov:skip=CKV2_AWS_5:aws/balancer gives it to the balancer
  count       = var.balanced ? 1 : 0
  name        = "${var.instance_name}-balancer"
  description = "The balancer: ssh from the allowed sources"
  vpc_id      = aws_vpc.this.id
  tags        = merge(var.labels, { Name = "${var.instance_name}-balancer" })
}

resource "aws_vpc_security_group_ingress_rule" "to_balancer" {
  for_each          = var.balanced ? toset(var.allowed_ssh_sources) : []
  security_group_id = aws_security_group.balancer[0].id
  description       = "ssh"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
}

resource "aws_vpc_security_group_egress_rule" "from_balancer" {
  count                        = var.balanced ? 1 : 0
  security_group_id            = aws_security_group.balancer[0].id
  description                  = "ssh to the hosts"
  referenced_security_group_id = aws_security_group.host.id
  ip_protocol                  = "tcp"
  from_port                    = 22
  to_port                      = 22
}
