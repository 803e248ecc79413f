# Who the service is, and what it may do: containers by name, never the account.

resource "azurerm_user_assigned_identity" "service" {
  name                = "stampworks-${var.stamp}"
  resource_group_name = azurerm_resource_group.stamp.name
  location            = azurerm_resource_group.stamp.location
  tags                = local.tags
}

# The pods of this stamp's namespace, and of no other, are this identity.
resource "azurerm_federated_identity_credential" "service" {
  name                = "service"
  resource_group_name = azurerm_resource_group.stamp.name
  parent_id           = azurerm_user_assigned_identity.service.id
  audience            = ["api://AzureADTokenExchange"]
  issuer              = var.cluster.oidc_issuer_url
  subject             = "system:serviceaccount:${var.stamp}:stampworks"
}

# KEDA looks at the lag as the stamp's identity (TriggerAuthentication, identityId).
resource "azurerm_federated_identity_credential" "keda" {
  name                = "keda"
  resource_group_name = azurerm_resource_group.stamp.name
  parent_id           = azurerm_user_assigned_identity.service.id
  audience            = ["api://AzureADTokenExchange"]
  issuer              = var.cluster.oidc_issuer_url
  subject             = "system:serviceaccount:${var.cluster.keda_namespace}:${var.cluster.keda_service_account}"
}

# For KEDA: the last sequence number of each partition.
resource "azurerm_role_assignment" "reads_hub" {
  scope                = azurerm_eventhub.telemetry.id
  role_definition_name = "Azure Event Hubs Data Receiver"
  principal_id         = azurerm_user_assigned_identity.service.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "writes_stamp" {
  scope                = azurerm_storage_container.stamp.id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = azurerm_user_assigned_identity.service.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "writes_tenant" {
  for_each = azurerm_storage_container.tenant

  scope                = each.value.id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = azurerm_user_assigned_identity.service.principal_id
  principal_type       = "ServicePrincipal"
}

# A tenant's own people and engines read its container and nothing beside it.
resource "azurerm_role_assignment" "reads_tenant" {
  for_each = {
    for pair in flatten([
      for tenant, settings in var.tenants : [
        for reader in settings.readers : { tenant = tenant, reader = reader }
      ]
    ]) : "${pair.tenant}/${pair.reader}" => pair
  }

  scope                = azurerm_storage_container.tenant[each.value.tenant].id
  role_definition_name = "Storage Blob Data Reader"
  principal_id         = each.value.reader
}
