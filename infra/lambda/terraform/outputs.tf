output "url" {
  description = "Signed requests (SigV4, service lambda) go here."
  value       = aws_lambda_function_url.service.function_url
}

output "alias_arn" {
  description = "What ../bulk.yaml and callers of Invoke need."
  value       = aws_lambda_alias.live.arn
}

output "log_group" {
  description = "Where the function writes."
  value       = aws_cloudwatch_log_group.logs.name
}
