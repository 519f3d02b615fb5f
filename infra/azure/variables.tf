variable "subscription_id" {
  description = "Azure subscription that pays."
  type        = string
}

variable "location" {
  description = "Azure region."
  type        = string
  default     = "westeurope"
}

variable "name" {
  description = "Goes before the names of everything here."
  type        = string
  default     = "defrost"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: expected 3 to 20 lower-case letters, digits and hyphens."
  }
}

variable "suffix" {
  description = "Makes the names of registry and storage account unique in all of Azure."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,8}$", var.suffix))
    error_message = "suffix: expected 3 to 8 lower-case letters and digits."
  }
}

variable "function" {
  description = "Which function runs; also the repository of its image."
  type        = string
  default     = "rerank-cpu-int8"

  validation {
    condition     = contains(["rerank-cpu-int8", "embed", "chat", "rerank-gpu"], var.function)
    error_message = "function: expected rerank-cpu-int8, embed, chat or rerank-gpu."
  }
}

variable "image_tag" {
  description = "Tag of the image in the registry."
  type        = string
  default     = "latest"
}

variable "deploy_app" {
  description = "False makes everything but the app, which needs the image in the registry and the snapshot on the share."
  type        = bool
  default     = true
}

variable "model_file" {
  description = "The snapshot's name on the share."
  type        = string
  default     = "model.snap"
}

variable "gpu_profile" {
  description = "Workload profile with a GPU; null: none, and Consumption-GPU-NC24-A100 for rerank-gpu. Name it for the GPU image of embed."
  type        = string
  default     = null

  validation {
    condition     = var.gpu_profile == null ? true : var.gpu_profile == "Consumption-GPU-NC24-A100"
    error_message = "gpu_profile: expected Consumption-GPU-NC24-A100. The T4 of Consumption-GPU-NC8as-T4 has compute capability 7.5, and the kernels are compiled for 8.0 and up."
  }
}

variable "container_cpu" {
  description = "Processors of one replica without a GPU."
  type        = number
  default     = 2
}

variable "container_memory" {
  description = "Memory of one replica without a GPU; the consumption plan ties it to the processors, 2 GiB each."
  type        = string
  default     = "4Gi"

  validation {
    condition     = var.container_memory == "${2 * var.container_cpu}Gi"
    error_message = "container_memory: expected 2 GiB for each processor of container_cpu."
  }
}

variable "max_replicas" {
  description = "Most replicas, which bounds what abuse can cost. The least is zero."
  type        = number
  default     = 5
}

variable "concurrent_requests" {
  description = "Requests at a time in one replica above which another one is started."
  type        = number
  default     = 8
}

variable "cooldown_seconds" {
  description = "Seconds without a request after which the last replica stops."
  type        = number
  default     = 300
}

variable "share_gb" {
  description = "Size of the share of snapshots."
  type        = number
  default     = 50
}

variable "api_keys" {
  description = "Keys that clients must send, separated by commas. The ingress is open to the internet, so they are required; kept in Terraform's state."
  type        = string
  sensitive   = true

  validation {
    condition     = alltrue([for key in split(",", var.api_keys) : length(trimspace(key)) >= 24])
    error_message = "api_keys: expected keys of at least 24 characters, separated by commas."
  }
}

variable "cors_origins" {
  description = "Origins that browsers may call from, separated by commas; none: no CORS headers."
  type        = string
  default     = "none"
}

variable "log_level" {
  description = "error, warn, info, debug or trace."
  type        = string
  default     = "info"
}

variable "log_retention_days" {
  description = "Days that logs are kept; 30 is the least that Log Analytics has."
  type        = number
  default     = 30
}

variable "monthly_budget" {
  description = "Monthly cost of the resource group, in the currency of the subscription, of which 80 and 100 % are announced."
  type        = number
  default     = 20
}

variable "budget_start" {
  description = "First month of the budget, as 2026-01-01T00:00:00Z."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{4}-[0-9]{2}-01T00:00:00Z$", var.budget_start))
    error_message = "budget_start: expected the first day of a month, as 2026-01-01T00:00:00Z."
  }
}

variable "budget_emails" {
  description = "Who hears of the budget."
  type        = list(string)
}

variable "tags" {
  description = "Tags on everything, beside project."
  type        = map(string)
  default     = {}
}
