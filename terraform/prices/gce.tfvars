# SAMPLE prices, so that the sums can be seen: of the order of the list prices of us-central1 in January 2026, rounded, and
# not checked against any list. Taxes, discounts and traffic are not in them. Write your own here, and their date.
prices = {
  currency        = "USD"
  region          = "us-central1"
  date            = "January 2026, samples"
  hours_per_month = 730
  machines = {
    n2-standard-4  = { vcpus = 4, memory_gb = 16, regular_hour = 0.1942, spot_hour = 0.0470 }
    n2-standard-8  = { vcpus = 8, memory_gb = 32, regular_hour = 0.3885, spot_hour = 0.0941 }
    n2-standard-16 = { vcpus = 16, memory_gb = 64, regular_hour = 0.7769, spot_hour = 0.1882 }
  }
  disk_gb_month     = { pd-standard = 0.04, pd-balanced = 0.10, pd-ssd = 0.17 }
  snapshot_gb_month = 0.05
  snapshot_share    = 0.5
  address_hour      = { regular = 0.005, spot = 0.0025 }
  balancer_hour     = 0.025
}
