# One address for all hosts. It keeps the clients' addresses, so that hosts see (and fail2ban bans) the real client.

resource "aws_lb" "this" {
  # checkov:skip=CKV_AWS_91:a network balancer only logs TLS, and this one passes ssh on as it is
  # checkov:skip=CKV_AWS_150:it holds nothing, and its address is an allocation of its own
  # checkov:skip=CKV_AWS_152:all hosts are in its zone, as their volumes are
  # checkov:skip=CKV2_AWS_28:a web firewall has nothing to say about ssh
  name               = var.instance_name
  load_balancer_type = "network"
  internal           = false
  security_groups    = [var.address.security_group]
  tags               = var.labels
  subnet_mapping {
    subnet_id     = var.subnet
    allocation_id = var.address.allocation
  }
}

resource "aws_lb_target_group" "ssh" {
  name                   = "${var.instance_name}-ssh"
  vpc_id                 = var.vpc
  port                   = 22
  protocol               = "TCP"
  target_type            = "instance"
  preserve_client_ip     = true
  connection_termination = false
  deregistration_delay   = 30 # a host leaves when its machine goes, and its logins go with it
  tags                   = var.labels
  health_check {
    protocol            = "TCP"
    port                = "22"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "ssh" {
  load_balancer_arn = aws_lb.this.arn
  port              = 22
  protocol          = "TCP"
  tags              = var.labels
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.ssh.arn
  }
}
