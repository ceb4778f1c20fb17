# SAMPLE prices, so that the sums can be seen: of the order of the list prices of us-east-1 in January 2026, rounded, and
# not checked against any list. Taxes, discounts and traffic are not in them. Write your own here, and their date.
prices = {
  currency        = "USD"
  region          = "us-east-1"
  date            = "January 2026, samples"
  hours_per_month = 730
  machines = {
    "m6i.xlarge"  = { vcpus = 4, memory_gb = 16, regular_hour = 0.192, spot_hour = 0.075 }
    "m6i.2xlarge" = { vcpus = 8, memory_gb = 32, regular_hour = 0.384, spot_hour = 0.150 }
    "m6i.4xlarge" = { vcpus = 16, memory_gb = 64, regular_hour = 0.768, spot_hour = 0.300 }
  }
  disk_gb_month     = { gp3 = 0.08, gp2 = 0.10 }
  snapshot_gb_month = 0.05
  snapshot_share    = 0.5
  address_hour      = { regular = 0.005, spot = 0.005 }
  balancer_hour     = 0.0225
}
