# A host's data volume. It outlives every machine that attaches it, and Terraform itself.

resource "aws_ebs_volume" "data" {
  # checkov:skip=CKV_AWS_189:AWS' own key encrypts it; a key of the customer's own would have to be at hand at each recovery
  availability_zone = var.zone
  size              = var.data_disk.size_gb
  type              = var.data_disk.type
  encrypted         = true
  tags              = merge(var.labels, { Name = "${var.name}-data", containarium-data = var.fleet })
  lifecycle {
    prevent_destroy = true
  }
}
