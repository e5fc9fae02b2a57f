"""What proves and explains the rules: scenarios, replay, the difference between policies, a shadow policy, explain."""
