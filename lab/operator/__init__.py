# SPDX-License-Identifier: Apache-2.0
"""Stand-in for the Dynamo operator: makes of a DynamoGraphDeployment what the real one makes of it.

`render` is pure and is compared with recordings of the real operator; `reconcile` talks to the
cluster. Only the component path is imitated: no Grove, no multinode, no planner.
"""
