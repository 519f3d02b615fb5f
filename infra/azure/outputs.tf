output "resource_group" {
  description = "Holds everything here."
  value       = azurerm_resource_group.defrost.name
}

output "location" {
  description = "Region."
  value       = azurerm_resource_group.defrost.location
}

output "registry" {
  description = "Name of the registry, for az acr."
  value       = azurerm_container_registry.images.name
}

output "login_server" {
  description = "Host of the registry, before the names of images."
  value       = azurerm_container_registry.images.login_server
}

output "storage_account" {
  description = "Holds the share of snapshots."
  value       = azurerm_storage_account.models.name
}

output "share" {
  description = "Name of the share of snapshots."
  value       = azurerm_storage_share.models.name
}

output "environment" {
  description = "The container apps' environment."
  value       = azurerm_container_app_environment.defrost.name
}

output "workspace" {
  description = "Where logs go."
  value       = azurerm_log_analytics_workspace.logs.workspace_id
}

output "app" {
  description = "Name of the app; null before it is deployed."
  value       = one(azurerm_container_app.function[*].name)
}

output "url" {
  description = "Where the function answers; null before it is deployed."
  value       = one([for app in azurerm_container_app.function : "https://${app.ingress[0].fqdn}"])
}
