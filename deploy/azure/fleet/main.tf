# Two stamps of the example fleet, in two geographies and two rings, and the DPS that sends devices to them.
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

provider "azurerm" {
  # With Entra only: the accounts of stamps have no keys.
  storage_use_azuread = true
  features {}
}

variable "oidc_issuer_urls" {
  description = "By stamp: the issuer of the tokens of the cluster that it runs in."
  type        = map(string)
}

# As deploy/examples/fleet says; a test compares them.
locals {
  stamps = {
    weu-1 = {
      region      = "westeurope"
      ring        = "early"
      environment = "production"
      iot_hub     = { name = "contoso-weu-1", tier = "S2", units = 4 }
      event_hub = {
        namespace      = "contoso-weu-1"
        tier           = "Standard"
        units          = 4
        name           = "telemetry"
        partitions     = 16
        consumer_group = "stampworks"
      }
      storage = { account = "contosoweu1", container = "telemetry" }
      tenants = { northwind = {} }
    }
    eus-1 = {
      region      = "eastus"
      ring        = "general"
      environment = "production"
      iot_hub     = { name = "contoso-eus-1", tier = "S2", units = 4 }
      event_hub = {
        namespace      = "contoso-eus-1"
        tier           = "Standard"
        units          = 4
        name           = "telemetry"
        partitions     = 16
        consumer_group = "stampworks"
      }
      storage = { account = "contosoeus1", container = "telemetry" }
      tenants = { contoso = {} }
    }
  }
}

module "stamp" {
  source   = "../stamp"
  for_each = local.stamps

  stamp       = each.key
  region      = each.value.region
  ring        = each.value.ring
  environment = each.value.environment
  iot_hub     = each.value.iot_hub
  event_hub   = each.value.event_hub
  storage     = each.value.storage
  tenants     = each.value.tenants
  cluster     = { oidc_issuer_url = var.oidc_issuer_urls[each.key] }
}

resource "azurerm_resource_group" "fleet" {
  name     = "fleet"
  location = "westeurope"
}

# Its enrolments name the provisioner's webhook (docs/provisioning.md); they are data, and made by the device API.
resource "azurerm_iothub_dps" "fleet" {
  name                = "contoso-dps"
  resource_group_name = azurerm_resource_group.fleet.name
  location            = azurerm_resource_group.fleet.location
  allocation_policy   = "Static"

  sku {
    name     = "S1"
    capacity = 1
  }

  dynamic "linked_hub" {
    for_each = local.stamps

    content {
      connection_string = module.stamp[linked_hub.key].iot_hub_link.connection_string
      location          = module.stamp[linked_hub.key].iot_hub_link.location
    }
  }
}

output "identities" {
  description = "`service.identity` of each stamp in the catalogue."
  value       = { for id, stamp in module.stamp : id => stamp.identity_client_id }
}

output "event_hub_connection_strings" {
  description = "Secret `event-hub` of each stamp's namespace."
  value       = { for id, stamp in module.stamp : id => stamp.event_hub_connection_string }
  sensitive   = true
}
