# The log between hub and service. Its retention is how long the service may be away without loss.

resource "azurerm_eventhub_namespace" "stamp" {
  name                = var.event_hub.namespace
  resource_group_name = azurerm_resource_group.stamp.name
  location            = azurerm_resource_group.stamp.location
  sku                 = var.event_hub.tier
  capacity            = var.event_hub.units
  minimum_tls_version = "1.2"
  tags                = local.tags
}

resource "azurerm_eventhub" "telemetry" {
  name              = var.event_hub.name
  namespace_id      = azurerm_eventhub_namespace.stamp.id
  partition_count   = var.event_hub.partitions
  message_retention = var.event_hub.retention_days

  lifecycle {
    prevent_destroy = true
  }
}

# Its own: nothing else may read with it.
resource "azurerm_eventhub_consumer_group" "service" {
  name                = var.event_hub.consumer_group
  namespace_name      = azurerm_eventhub_namespace.stamp.name
  eventhub_name       = azurerm_eventhub.telemetry.name
  resource_group_name = azurerm_resource_group.stamp.name
}

# The service comes in with a connection string that can listen to this hub and nothing else.
resource "azurerm_eventhub_authorization_rule" "service" {
  name                = "stampworks"
  namespace_name      = azurerm_eventhub_namespace.stamp.name
  eventhub_name       = azurerm_eventhub.telemetry.name
  resource_group_name = azurerm_resource_group.stamp.name
  listen              = true
  send                = false
  manage              = false
}
