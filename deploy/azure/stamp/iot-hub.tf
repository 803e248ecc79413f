# The hub, and the road of every message into the Event Hub.

resource "azurerm_iothub" "stamp" {
  name                = var.iot_hub.name
  resource_group_name = azurerm_resource_group.stamp.name
  location            = azurerm_resource_group.stamp.location
  min_tls_version     = "1.2"
  tags                = local.tags

  sku {
    name     = var.iot_hub.tier
    capacity = var.iot_hub.units
  }

  identity {
    type = "SystemAssigned"
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_role_assignment" "hub_sends" {
  scope                = azurerm_eventhub.telemetry.id
  role_definition_name = "Azure Event Hubs Data Sender"
  principal_id         = azurerm_iothub.stamp.identity[0].principal_id
}

resource "azurerm_iothub_endpoint_eventhub" "telemetry" {
  name                = "telemetry"
  resource_group_name = azurerm_resource_group.stamp.name
  iothub_id           = azurerm_iothub.stamp.id
  authentication_type = "identityBased"
  endpoint_uri        = "sb://${azurerm_eventhub_namespace.stamp.name}.servicebus.windows.net"
  entity_path         = azurerm_eventhub.telemetry.name

  depends_on = [azurerm_role_assignment.hub_sends]
}

# No condition: what no rule had in mind is data too.
resource "azurerm_iothub_route" "messages" {
  name                = "messages"
  resource_group_name = azurerm_resource_group.stamp.name
  iothub_name         = azurerm_iothub.stamp.name
  source              = "DeviceMessages"
  condition           = "true"
  endpoint_names      = [azurerm_iothub_endpoint_eventhub.telemetry.name]
  enabled             = true
}

resource "azurerm_iothub_route" "lifecycle" {
  name                = "lifecycle"
  resource_group_name = azurerm_resource_group.stamp.name
  iothub_name         = azurerm_iothub.stamp.name
  source              = "DeviceLifecycleEvents"
  condition           = "true"
  endpoint_names      = [azurerm_iothub_endpoint_eventhub.telemetry.name]
  enabled             = true
}

# If a route is ever given a condition, what it leaves out still comes to the tables, and not to the built-in
# endpoint that nobody reads.
resource "azurerm_iothub_fallback_route" "rest" {
  resource_group_name = azurerm_resource_group.stamp.name
  iothub_name         = azurerm_iothub.stamp.name
  source              = "DeviceMessages"
  condition           = "true"
  endpoint_names      = [azurerm_iothub_endpoint_eventhub.telemetry.name]
  enabled             = true
}

# Set by the hub on every message, so no device can: the tag that the provisioner writes (docs/provisioning.md), and
# `[tenancy] enrichment` reads for devices that the directory does not list.
resource "azurerm_iothub_enrichment" "tenant" {
  resource_group_name = azurerm_resource_group.stamp.name
  iothub_name         = azurerm_iothub.stamp.name
  key                 = "hub-tenant"
  value               = "$twin.tags.tenant"
  endpoint_names      = [azurerm_iothub_endpoint_eventhub.telemetry.name]
}

# What DPS assigns devices with: it reads and writes identities, and does nothing else with the hub.
resource "azurerm_iothub_shared_access_policy" "dps" {
  name                = "dps"
  resource_group_name = azurerm_resource_group.stamp.name
  iothub_name         = azurerm_iothub.stamp.name
  registry_read       = true
  registry_write      = true
  service_connect     = true
}
