output "id" {
  description = "The volume's id."
  value       = aws_ebs_volume.data.id
}

output "arn" {
  description = "The volume's ARN."
  value       = aws_ebs_volume.data.arn
}

output "disk" {
  description = "Path of the volume on the machine."
  value       = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(aws_ebs_volume.data.id, "-", "")}"
}
