variable "region" {
  description = "AWS region of everything here; the model's bucket should be in it."
  type        = string
}

variable "name" {
  description = "Name of the Lambda function, its role and its log group."
  type        = string
}

variable "function" {
  description = "Which binary runs."
  type        = string

  validation {
    condition     = contains(["rerank-cpu-int8", "embed", "chat"], var.function)
    error_message = "function: expected rerank-cpu-int8, embed or chat."
  }
}

variable "image_uri" {
  description = "Container image in ECR, started with SnapStart. Give this or zip_path."
  type        = string
  default     = null
}

variable "zip_path" {
  description = "Zip made by scripts/ops/package_lambda, for provided.al2023. Give this or image_uri."
  type        = string
  default     = null
}

variable "model_bucket" {
  description = "Bucket of the snapshot; null where the image has it."
  type        = string
  default     = null
}

variable "model_key" {
  description = "Key of the snapshot, the only object that the function may read."
  type        = string
  default     = null

  validation {
    condition     = var.model_key == null ? true : can(regex("^[^*?]+\\.snap$", var.model_key))
    error_message = "model_key: expected the key of one snapshot, without wildcards, ending in .snap."
  }
}

variable "model_kms_key_arn" {
  description = "KMS key of the bucket, where it has one of its own."
  type        = string
  default     = null
}

variable "memory_mb" {
  description = "Memory; processors come with it, one for every 1769 MB. ../README.md has a table."
  type        = number
  default     = 3538
}

variable "ephemeral_mb" {
  description = "/tmp of the zip form; with SnapStart it is 512, the most allowed."
  type        = number
  default     = 1024
}

variable "timeout_s" {
  description = "Longest request; more than BOOT_TIMEOUT (120), so that it is the function that tells of a slow start. Of chat it is 900."
  type        = number
  default     = 150

  validation {
    condition     = var.timeout_s >= 130 && var.timeout_s <= 900
    error_message = "timeout_s: expected 130 to 900 seconds."
  }
}

variable "reserved_concurrency" {
  description = "Most copies at once, which bounds what abuse can cost."
  type        = number
  default     = 10
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 14
}

variable "api_keys_secret" {
  description = "Name of a secret in Secrets Manager with the keys that clients must send, separated by commas. Its value is kept in Terraform's state."
  type        = string
  default     = null
}
