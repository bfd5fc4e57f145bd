# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the Dynamo operator: enough of it that a drill cannot tell the difference.

It imitates what was recorded of operator 1.5.0 (``tests/data/recordings/dynamo``): the object chain
DynamoGraphDeployment > DynamoComponentDeployment > Deployment + Service, both API versions, the
admission texts, the managed rollout of all workers and the order of status changes. See
``README.md`` for what it does not do.
"""
