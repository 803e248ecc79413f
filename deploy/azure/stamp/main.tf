# What one stamp needs in Azure: its hub, the Event Hub that the hub routes to, its tables, and an identity that
# may do no more than read the one and write the other. The names are those of the catalogue (docs/fleet.md).
#
# Not applied by this project: docs/deploying.md says how far it is checked.

terraform {
  required_version = ">= 1.9"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.55"
    }
  }
}

resource "azurerm_resource_group" "stamp" {
  name     = "stamp-${var.stamp}"
  location = var.region
  tags     = local.tags
}

locals {
  tags = {
    stamp       = var.stamp
    ring        = var.ring
    environment = var.environment
  }
}
