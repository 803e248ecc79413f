output "identity_client_id" {
  description = "`service.identity` of the catalogue."
  value       = azurerm_user_assigned_identity.service.client_id
}

output "event_hub_connection_string" {
  description = "Secret `event-hub`, key `connection-string`, in the stamp's namespace."
  value       = azurerm_eventhub_authorization_rule.service.primary_connection_string
  sensitive   = true
}

output "iot_hub_link" {
  description = "What DPS links."
  value = {
    connection_string = azurerm_iothub_shared_access_policy.dps.primary_connection_string
    location          = azurerm_resource_group.stamp.location
  }
  sensitive = true
}
