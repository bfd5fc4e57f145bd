# SPDX-License-Identifier: Apache-2.0
"""A tiny inference engine for the real Dynamo runtime. Stand-in for vLLM, SGLang, TensorRT-LLM.

Its answers are known beforehand, so that a check can tell a right one from a wrong one, and every
token of them goes through the GPU by CUDA driver calls, so that a dead GPU means no answer.
"""
